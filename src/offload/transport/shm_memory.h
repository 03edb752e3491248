/// Who uses which memory of a shared segment, as the master knows it. In private memory: the worker's messages are
/// checked against it, and can only give back what is its to give.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "wire/shm_area.h"

namespace tempo::offload {

/// Memory for operands: given out here, used by a Buffer of the master, by the worker, or by both. Thread-safe.
class ShmOperands {
 public:
  explicit ShmOperands(wire::ShmRange range) : area_(range) {}

  /// For a Buffer of the master. Empty if there is no room within `patience`.
  std::optional<uint64_t> allocate(uint64_t bytes, std::chrono::milliseconds patience);
  /// Whether `bytes` at `offset` were given out, as a whole or part of one.
  [[nodiscard]] bool holds(uint64_t offset, uint64_t bytes) const;
  /// The operand that lies here was put: the worker uses it, once for every put.
  void lend(uint64_t offset);
  /// The worker says it is done. @throws ProtocolError if it holds nothing there.
  void give_back(uint64_t offset);
  /// The master's Buffer is gone.
  void drop(uint64_t offset) noexcept;

  void close() { area_.close(); }
  /// "A of B bytes in use", for messages.
  [[nodiscard]] std::string fill() const;

 private:
  struct Block {
    uint64_t bytes = 0;
    std::map<uint64_t, uint64_t> lent = {};  ///< offset -> how often
    bool has_buffer = true;
  };
  using Blocks = std::map<uint64_t, Block>;
  /// The block that this offset lies in, or the end.
  [[nodiscard]] Blocks::const_iterator block_at(uint64_t offset) const;
  void release_if_unused(Blocks::iterator block);

  wire::ShmArea area_;
  mutable std::mutex mutex_;
  Blocks blocks_;
};

/// Replies that the master still reads. Thread-safe.
class ShmReplies {
 public:
  explicit ShmReplies(wire::ShmRange range) : range_(range) {}

  /// @throws ProtocolError for an offset that is not aligned, outside the reply area, or in a reply held already.
  void accept(uint64_t offset, uint64_t bytes);
  void release(uint64_t offset) noexcept;

 private:
  const wire::ShmRange range_;
  std::mutex mutex_;
  std::map<uint64_t, uint64_t> held_;  // offset -> end
};

}  // namespace tempo::offload
