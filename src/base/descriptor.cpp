#include "base/descriptor.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tempo/error.h"

namespace tempo {
namespace {

[[noreturn]] void fail(const std::string& name, const char* action) {
  throw RunError(fmt::format("{}: cannot be {}: {}", name, action, std::strerror(errno)));
}

}  // namespace

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
    if (count < 0) fail(name, "read");
    if (count == 0) break;
    total += static_cast<size_t>(count);
  }
  return total;
}

void write_at(int descriptor, uint64_t offset, std::span<const std::byte> bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(name, "written");
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
}

size_t read_next(int descriptor, std::span<std::byte> out, const std::string& name) {
  for (;;) {
    const ssize_t count = ::read(descriptor, out.data(), out.size());
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EAGAIN)
      wait_until_ready(descriptor, POLLIN, name);
    else if (errno != EINTR)
      fail(name, "read");
  }
}

void write_next(int descriptor, std::span<const std::byte> bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count >= 0)
      bytes = bytes.subspan(static_cast<size_t>(count));
    else if (errno == EAGAIN)
      wait_until_ready(descriptor, POLLOUT, name);
    else if (errno != EINTR)
      fail(name, "written");
  }
}

void wait_until_ready(int descriptor, short events, const std::string& name) {
  pollfd one{.fd = descriptor, .events = events, .revents = 0};
  if (::poll(&one, 1, -1) > 0) return;
  if (errno == EINTR) throw RunError(fmt::format("{}: interrupted while waiting for its other end", name));
  fail(name, "waited for");
}

}  // namespace tempo
