#include "worker/server/process_memory.h"

#include <unistd.h>

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

void give_back_freed_memory() noexcept {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

uint64_t machine_memory() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace tempo::worker
