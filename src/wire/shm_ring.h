/// A ring of messages in shared memory: one writer, one reader, in different processes that do not trust each other.
/// A message is its length as u32 and its bytes, published at once. Each end keeps its own position to itself and
/// believes the other's word only after a check. Neither end is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "wire/shm_layout.h"

namespace tempo::wire {

class RingWriter {
 public:
  explicit RingWriter(RingMemory memory) : memory_(memory) {}

  /// False if there is no room now; nothing is written then.
  /// @throws ProtocolError if the reader claims to have read what was never written, or the message can never fit.
  bool try_write(std::span<const std::byte> message);
  /// Whether the reader has gone to sleep and must be woken; it is taken for awake after this.
  bool take_reader_sleep();

 private:
  void copy_in(uint32_t position, std::span<const std::byte> bytes);

  RingMemory memory_;
  uint32_t written_ = 0;
};

class RingReader {
 public:
  explicit RingReader(RingMemory memory) : memory_(memory) {}

  /// False if there is no message. @param message receives a copy: what was checked is what is used.
  /// @throws ProtocolError if the writer claims more than the ring holds, or a length that it did not write.
  bool try_read(std::vector<std::byte>& message);
  [[nodiscard]] bool is_empty() const;
  /// To be followed by one more look at `is_empty` before sleeping: the writer looks here after it wrote.
  void announce_sleep();

 private:
  void copy_out(uint32_t position, std::span<std::byte> bytes) const;

  RingMemory memory_;
  uint32_t read_ = 0;
};

}  // namespace tempo::wire
