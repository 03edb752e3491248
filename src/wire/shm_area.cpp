#include "wire/shm_area.h"

#include <iterator>

namespace tempo::wire {

uint64_t shm_footprint(uint64_t bytes) {
  if (bytes == 0) return kShmAlignment;
  return bytes > UINT64_MAX - kShmAlignment ? UINT64_MAX : (bytes + kShmAlignment - 1) / kShmAlignment * kShmAlignment;
}

ShmArea::ShmArea(ShmRange range) : range_(range) {
  if (range.bytes() > 0) free_.emplace(range.begin, range.bytes());
}

std::optional<uint64_t> ShmArea::allocate(uint64_t bytes, std::chrono::milliseconds patience) {
  const uint64_t footprint = shm_footprint(bytes);
  if (footprint > range_.bytes()) return std::nullopt;
  std::unique_lock lock(mutex_);
  std::optional<uint64_t> offset;
  released_.wait_for(lock, patience, [&] { return closed_ || (offset = first_fit(footprint)).has_value(); });
  return offset;
}

bool ShmArea::release(uint64_t offset) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = given_.find(offset);
    if (found == given_.end()) return false;
    const uint64_t bytes = found->second;
    given_.erase(found);
    used_ -= bytes;
    auto run = free_.emplace(offset, bytes).first;
    if (const auto next = std::next(run); next != free_.end() && run->first + run->second == next->first) {
      run->second += next->second;
      free_.erase(next);
    }
    if (run != free_.begin()) {
      if (const auto before = std::prev(run); before->first + before->second == run->first) {
        before->second += run->second;
        free_.erase(run);
      }
    }
  }
  released_.notify_all();
  return true;
}

void ShmArea::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  released_.notify_all();
}

uint64_t ShmArea::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

std::optional<uint64_t> ShmArea::first_fit(uint64_t bytes) {
  for (auto run = free_.begin(); run != free_.end(); ++run) {
    if (run->second < bytes) continue;
    const auto [offset, left] = *run;
    free_.erase(run);
    if (left > bytes) free_.emplace(offset + bytes, left - bytes);
    given_.emplace(offset, bytes);
    used_ += bytes;
    return offset;
  }
  return std::nullopt;
}

}  // namespace tempo::wire
