#include "offload/transport/shm_memory.h"

#include <fmt/format.h>

#include <cassert>
#include <iterator>

#include "tempo/error.h"

namespace tempo::offload {

std::optional<uint64_t> ShmOperands::allocate(uint64_t bytes, std::chrono::milliseconds patience) {
  const auto offset = area_.allocate(bytes, patience);
  if (offset) {
    const std::lock_guard lock(mutex_);
    blocks_[*offset] = {.bytes = bytes};
  }
  return offset;
}

bool ShmOperands::holds(uint64_t offset, uint64_t bytes) const {
  const std::lock_guard lock(mutex_);
  const auto block = block_at(offset);
  return block != blocks_.end() && bytes <= block->second.bytes - (offset - block->first);
}

ShmOperands::Blocks::const_iterator ShmOperands::block_at(uint64_t offset) const {
  auto block = blocks_.upper_bound(offset);
  if (block == blocks_.begin()) return blocks_.end();
  --block;
  const bool is_inside = offset == block->first || offset - block->first < block->second.bytes;
  return is_inside ? block : blocks_.end();
}

void ShmOperands::lend(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  ++blocks_.at(block_at(offset)->first).lent[offset];
}

void ShmOperands::give_back(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  const auto at = block_at(offset);
  const auto block = at == blocks_.end() ? blocks_.end() : blocks_.find(at->first);
  if (block == blocks_.end() || block->second.lent.count(offset) == 0)
    throw ProtocolError(fmt::format("the worker freed operand memory at {} that it does not hold", offset));
  if (--block->second.lent[offset] == 0) block->second.lent.erase(offset);
  release_if_unused(block);
}

void ShmOperands::drop(uint64_t offset) noexcept {
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(offset);
  assert(block != blocks_.end());
  block->second.has_buffer = false;
  release_if_unused(block);
}

std::string ShmOperands::fill() const { return fmt::format("{} of {} bytes in use", area_.used(), area_.bytes()); }

void ShmOperands::release_if_unused(std::map<uint64_t, Block>::iterator block) {
  if (block->second.has_buffer || !block->second.lent.empty()) return;
  const uint64_t offset = block->first;
  blocks_.erase(block);
  [[maybe_unused]] const bool was_given = area_.release(offset);
  assert(was_given);
}

void ShmReplies::accept(uint64_t offset, uint64_t bytes) {
  const uint64_t footprint = wire::shm_footprint(bytes);
  if (offset % wire::kShmAlignment != 0 || !range_.holds(offset, footprint))
    throw ProtocolError(fmt::format("got a reply of {} bytes at {}, expected it within {} to {}, at a multiple of {}",
                                    bytes, offset, range_.begin, range_.end, wire::kShmAlignment));
  const std::lock_guard lock(mutex_);
  const auto next = held_.lower_bound(offset);
  const bool hits_next = next != held_.end() && next->first < offset + footprint;
  const bool hits_previous = next != held_.begin() && std::prev(next)->second > offset;
  if (hits_next || hits_previous)
    throw ProtocolError(fmt::format("got a reply of {} bytes at {}, over one that is still in use", bytes, offset));
  held_.emplace(offset, offset + footprint);
}

void ShmReplies::release(uint64_t offset) noexcept {
  const std::lock_guard lock(mutex_);
  held_.erase(offset);
}

}  // namespace tempo::offload
