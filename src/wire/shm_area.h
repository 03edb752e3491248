/// Gives out one side's part of the shared segment: first fit over a list of free runs that are merged again. All it
/// knows lives in private memory: the peer sees the bytes given out, never the list.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "wire/shm_layout.h"

namespace tempo::wire {

/// What `bytes` of data take in the segment: whole cache lines, at least one, so that every offset is unique.
uint64_t shm_footprint(uint64_t bytes);

/// Thread-safe.
class ShmArea {
 public:
  explicit ShmArea(ShmRange range);

  /// Offset in the segment, a multiple of kShmAlignment. Waits up to `patience` for others to release memory; empty if
  /// that was in vain, at once if the area is too small altogether, or closed.
  std::optional<uint64_t> allocate(uint64_t bytes, std::chrono::milliseconds patience);
  /// False if nothing is given out at `offset`.
  [[nodiscard]] bool release(uint64_t offset);
  /// Ends all waiting, now and later.
  void close();

  [[nodiscard]] uint64_t bytes() const { return range_.bytes(); }
  [[nodiscard]] uint64_t used() const;

 private:
  std::optional<uint64_t> first_fit(uint64_t bytes);

  const ShmRange range_;
  mutable std::mutex mutex_;
  std::condition_variable released_;
  std::map<uint64_t, uint64_t> free_, given_;  // offset -> bytes
  uint64_t used_ = 0;
  bool closed_ = false;
};

}  // namespace tempo::wire
