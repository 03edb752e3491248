#include "worker/server/process_memory.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace tempo::worker {

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);         // large blocks come from the heap, too
  mallopt(M_TRIM_THRESHOLD, -1);  // which does not shrink
  mallopt(M_ARENA_MAX, 1);        // and of which there is one: others are limited to 64 MiB
#endif
}

}  // namespace tempo::worker
