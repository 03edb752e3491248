/// The mapped segment: anonymous memory (memfd) that the worker creates and seals, so that neither side can pull pages
/// away under the other.
#pragma once

#include <cstddef>
#include <span>

#include "wire/descriptor.h"
#include "wire/shm_layout.h"

namespace tempo::wire {

/// An anonymous file with a header, that can neither shrink nor grow any more. Pages come into being when touched.
/// @throws InputError for a size as of ShmLayout::of, RunError if the system gives no memory.
UniqueDescriptor create_shm_file(size_t segment_bytes);

class ShmSegment {
 public:
  /// Maps a file that came from a peer. Refuses all that could make an access fault later, or end elsewhere than in
  /// memory: files without seals against shrinking and growing, on another file system than tmpfs, of an odd size.
  /// @throws ProtocolError for those and for a bad header, RunError if it cannot be mapped.
  explicit ShmSegment(const UniqueDescriptor& file);
  ~ShmSegment();
  ShmSegment(const ShmSegment&) = delete;
  ShmSegment& operator=(const ShmSegment&) = delete;

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] std::byte* at(uint64_t offset) const { return bytes_.data() + offset; }
  [[nodiscard]] const ShmLayout& layout() const { return layout_; }

 private:
  std::span<std::byte> bytes_;
  ShmLayout layout_;
};

}  // namespace tempo::wire
