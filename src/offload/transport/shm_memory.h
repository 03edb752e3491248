/// Tracks who uses which memory of a shared segment. The records lie in private memory. The worker's messages are
/// checked against them, so a worker can only give back what it holds.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "wire/shm_area.h"

namespace tempo::offload {

/// Memory for operands, used by a Buffer of the master, by the worker, or by both. Thread-safe.
class ShmOperands {
 public:
  explicit ShmOperands(wire::ShmRange range) : area_(range) {}

  /// Allocates memory for a Buffer of the master; returns its offset, or nothing if there is no room within `patience`.
  std::optional<uint64_t> allocate(uint64_t bytes, std::chrono::milliseconds patience);
  /// Whether the `bytes` bytes at `offset` lie within one allocation.
  [[nodiscard]] bool holds(uint64_t offset, uint64_t bytes) const;
  /// Records that the operand at `offset` was put. The worker then uses it, once for every put. Requires `holds`.
  void lend(uint64_t offset);
  /// Records that the worker is done with one put. @throws ProtocolError if the worker does not use this offset.
  void give_back(uint64_t offset);
  /// Records that the master's Buffer is gone.
  void drop(uint64_t offset) noexcept;

  void close() { area_.close(); }
  /// "A of B bytes in use", for messages.
  [[nodiscard]] std::string fill() const;

 private:
  struct Block {
    uint64_t bytes = 0;
    std::map<uint64_t, uint64_t> lent = {};  ///< for each offset, how often the worker uses it
    bool has_buffer = true;
  };
  using Blocks = std::map<uint64_t, Block>;
  /// The block that holds this offset, or the end.
  [[nodiscard]] Blocks::const_iterator block_at(uint64_t offset) const;
  void release_if_unused(Blocks::iterator block);

  wire::ShmArea area_;
  mutable std::mutex mutex_;
  Blocks blocks_;
};

/// Memory of replies that the master still reads. Thread-safe.
class ShmReplies {
 public:
  explicit ShmReplies(wire::ShmRange range) : range_(range) {}

  /// Records a reply. @throws ProtocolError if it is not aligned, not within the reply area, or overlaps a reply in
  /// use.
  void accept(uint64_t offset, uint64_t bytes);
  void release(uint64_t offset) noexcept;

 private:
  const wire::ShmRange range_;
  std::mutex mutex_;
  std::map<uint64_t, uint64_t> held_;  // end of each reply, by its offset
};

}  // namespace tempo::offload
