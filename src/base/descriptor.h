/// An open file: closed on destruction, read and written whole at given offsets, or as a stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace tempo {

/// A file descriptor that is closed when done with; -1 is none. Errors of closing are ignored: whoever writes syncs.
class UniqueDescriptor {
 public:
  explicit UniqueDescriptor(int descriptor = -1) noexcept : descriptor_(descriptor) {}
  ~UniqueDescriptor() { reset(); }
  UniqueDescriptor(UniqueDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  UniqueDescriptor& operator=(UniqueDescriptor&& other) noexcept {
    if (this != &other) {
      reset();
      descriptor_ = std::exchange(other.descriptor_, -1);
    }
    return *this;
  }
  UniqueDescriptor(const UniqueDescriptor&) = delete;
  UniqueDescriptor& operator=(const UniqueDescriptor&) = delete;

  [[nodiscard]] int get() const noexcept { return descriptor_; }
  void reset() noexcept;

 private:
  int descriptor_;
};

/// Reads until `out` is full or the file ends. `name` is for messages. Thread-safe, as is the next one.
/// @returns bytes read. @throws RunError if the file cannot be read.
size_t read_at(int descriptor, uint64_t offset, std::span<std::byte> out, const std::string& name);
/// @throws RunError if the file cannot be written.
void write_at(int descriptor, uint64_t offset, std::span<const std::byte> bytes, const std::string& name);

/// Reads what comes next from a file, a pipe or a device. @returns bytes read; 0 at the end.
/// @throws RunError if it cannot be read, or as `wait_until_ready`.
size_t read_next(int descriptor, std::span<std::byte> out, const std::string& name);
/// Writes all of it. @throws RunError if it cannot be written, or as `wait_until_ready`.
void write_next(int descriptor, std::span<const std::byte> bytes, const std::string& name);
/// Waits until there is something to read (`events` POLLIN) or room to write (POLLOUT) at an open pipe or device.
/// @throws RunError if a signal that the program handles comes first: nobody can ask the program to end otherwise.
void wait_until_ready(int descriptor, short events, const std::string& name);

}  // namespace tempo
