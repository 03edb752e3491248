#include "base/descriptor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tempo/error.h"

namespace tempo {

void UniqueDescriptor::reset() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

size_t read_at(int descriptor, uint64_t offset, std::span<std::byte> out, const std::string& name) {
  size_t total = 0;
  while (total < out.size()) {
    const ssize_t count =
        ::pread(descriptor, out.data() + total, out.size() - total, static_cast<off_t>(offset + total));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw RunError(fmt::format("{}: cannot be read: {}", name, std::strerror(errno)));
    if (count == 0) break;
    total += static_cast<size_t>(count);
  }
  return total;
}

void write_at(int descriptor, uint64_t offset, std::span<const std::byte> bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw RunError(fmt::format("{}: cannot be written: {}", name, std::strerror(errno)));
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
}

}  // namespace tempo
