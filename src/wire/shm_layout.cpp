#include "wire/shm_layout.h"

#include <fmt/format.h>

#include <cstring>

#include "tempo/error.h"

namespace tempo::wire {
namespace {

// The header, and behind it the words of both rings, in the first page; then the rings; then the data.
constexpr size_t kMagicAt = 0, kVersionAt = 8, kSegmentBytesAt = 16, kOperandBytesAt = 24, kHeaderBytes = 32;
constexpr size_t kRingWordsAt = 256, kRingWordsBytes = 256, kWordBytes = 64;
constexpr size_t kRingsAt = kShmHugePage;
constexpr size_t kDataAt = kRingsAt + 2 * size_t{kShmRingBytes};

template <typename Integer>
Integer load(std::span<const std::byte> header, size_t at) {
  Integer value = 0;
  std::memcpy(&value, header.data() + at, sizeof value);
  return value;
}

template <typename Integer>
void store(std::span<std::byte> header, size_t at, Integer value) {
  std::memcpy(header.data() + at, &value, sizeof value);
}

uint32_t* word(std::span<std::byte> segment, size_t at) { return reinterpret_cast<uint32_t*>(segment.data() + at); }

}  // namespace

ShmLayout ShmLayout::of(size_t segment_bytes) {
  if (segment_bytes < kMinSegmentBytes || segment_bytes > kMaxSegmentBytes || segment_bytes % kShmHugePage != 0)
    throw InputError(fmt::format("shm: got a segment of {} bytes, expected a multiple of {} from {} to {}",
                                 segment_bytes, kShmHugePage, kMinSegmentBytes, kMaxSegmentBytes));
  const size_t data = segment_bytes - kDataAt;
  return {.segment_bytes = segment_bytes, .operand_bytes = data / 4 * 3 / kShmHugePage * kShmHugePage};
}

ShmRange ShmLayout::operands() const { return {kDataAt, kDataAt + operand_bytes}; }
ShmRange ShmLayout::replies() const { return {kDataAt + operand_bytes, segment_bytes}; }

void write_shm_header(std::span<std::byte> segment, const ShmLayout& layout) {
  store(segment, kMagicAt, kShmMagic);
  store(segment, kVersionAt, kShmVersion);
  store(segment, kSegmentBytesAt, layout.segment_bytes);
  store(segment, kOperandBytesAt, layout.operand_bytes);
}

ShmLayout read_shm_header(std::span<const std::byte> segment) {
  if (segment.size() < kMinSegmentBytes)
    throw ProtocolError(
        fmt::format("shm: got a segment of {} bytes, expected at least {}", segment.size(), kMinSegmentBytes));
  std::byte header[kHeaderBytes];
  std::memcpy(header, segment.data(), kHeaderBytes);
  if (load<uint64_t>(header, kMagicAt) != kShmMagic) throw ProtocolError("shm: the segment has no TEMPOSHM header");
  const auto version = load<uint32_t>(header, kVersionAt);
  if (version != kShmVersion)
    throw ProtocolError(fmt::format("shm: got layout version {}, expected {}", version, kShmVersion));
  const ShmLayout layout = {.segment_bytes = load<uint64_t>(header, kSegmentBytesAt),
                            .operand_bytes = load<uint64_t>(header, kOperandBytesAt)};
  if (layout.segment_bytes != segment.size())
    throw ProtocolError(
        fmt::format("shm: the header says {} bytes, the segment has {}", layout.segment_bytes, segment.size()));
  if (layout.operand_bytes % kShmHugePage != 0 || layout.operand_bytes > segment.size() - kDataAt)
    throw ProtocolError(fmt::format("shm: got {} bytes of operands, expected a multiple of {} up to {}",
                                    layout.operand_bytes, kShmHugePage, segment.size() - kDataAt));
  return layout;
}

RingMemory ring_memory(std::span<std::byte> segment, ShmRing ring) {
  const auto index = static_cast<size_t>(ring);
  const size_t words = kRingWordsAt + index * kRingWordsBytes;
  return {.written = word(segment, words),
          .read = word(segment, words + kWordBytes),
          .reader_sleeps = word(segment, words + 2 * kWordBytes),
          .bytes = segment.subspan(kRingsAt + index * kShmRingBytes, kShmRingBytes)};
}

}  // namespace tempo::wire
