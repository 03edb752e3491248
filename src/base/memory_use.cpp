#include "base/memory_use.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/descriptor.h"

namespace tempo {

uint64_t resident_bytes() noexcept {
  const UniqueDescriptor file(open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
  char text[128] = {};
  if (file.get() < 0 || read(file.get(), text, sizeof text - 1) <= 0) return 0;
  const char* const second = std::strchr(text, ' ');  // all pages, then those in memory
  const auto pages = second == nullptr ? 0 : std::strtoull(second, nullptr, 10);
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace tempo
