/// Where everything lies in the one segment of shared memory of a `shm://` session: docs/formats/shm.md. Shared by
/// master and worker; nothing here is secret. The peer can write all of the segment at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tempo::wire {

constexpr uint64_t kShmMagic = 0x4d48534f504d4554;  ///< "TEMPOSHM", little-endian
constexpr uint32_t kShmVersion = 1;
constexpr size_t kShmAlignment = 64;                      ///< of every operand and reply
constexpr size_t kShmHugePage = size_t{2} << 20;          ///< areas begin at multiples of it
constexpr uint32_t kShmRingBytes = uint32_t{2} << 20;     ///< of each ring; the longest message fits twice
constexpr size_t kMinSegmentBytes = size_t{16} << 20;     ///< rings, and 10 MiB of data
constexpr size_t kMaxSegmentBytes = size_t{1} << 42;      ///< what a master agrees to map
constexpr size_t kDefaultSegmentBytes = size_t{4} << 30;  ///< address space: pages exist once they are written

/// A run of bytes of the segment; offsets count from the segment's first byte.
struct ShmRange {
  uint64_t begin = 0, end = 0;

  [[nodiscard]] uint64_t bytes() const { return end - begin; }
  /// Whether [offset, offset + count) lies inside; no sum of untrusted numbers is formed.
  [[nodiscard]] bool holds(uint64_t offset, uint64_t count) const {
    return offset >= begin && offset <= end && count <= end - offset;
  }
};

/// Sizes of one segment. Everything else is fixed by the version.
struct ShmLayout {
  uint64_t segment_bytes = 0;
  uint64_t operand_bytes = 0;

  /// Three quarters of the data for operands, which stay, and one for replies, which pass.
  /// @throws InputError outside [kMinSegmentBytes, kMaxSegmentBytes].
  static ShmLayout of(size_t segment_bytes);

  [[nodiscard]] ShmRange operands() const;  ///< given out by the master alone
  [[nodiscard]] ShmRange replies() const;   ///< given out by the worker alone
};

/// @param segment all of it.
void write_shm_header(std::span<std::byte> segment, const ShmLayout& layout);
/// Copies the header once, then checks the copy against the size of the mapping.
/// @throws ProtocolError for another magic or version, another size, or areas that do not fit into it.
ShmLayout read_shm_header(std::span<const std::byte> segment);

enum class ShmRing { kToWorker = 0, kToMaster = 1 };

/// One ring's memory: three words on cache lines of their own, and the bytes.
struct RingMemory {
  uint32_t* written = nullptr;        ///< bytes ever written, modulo 2^32; the writer's
  uint32_t* read = nullptr;           ///< bytes ever read, modulo 2^32; the reader's
  uint32_t* reader_sleeps = nullptr;  ///< not 0: the reader wants its doorbell rung
  std::span<std::byte> bytes;         ///< a power of two of them, at most 2^31
};
RingMemory ring_memory(std::span<std::byte> segment, ShmRing ring);

}  // namespace tempo::wire
