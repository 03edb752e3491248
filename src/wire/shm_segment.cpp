#include "wire/shm_segment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstring>

#include "tempo/error.h"

namespace tempo::wire {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr int kNeededSeals = F_SEAL_SHRINK | F_SEAL_GROW;

std::span<std::byte> map(int file, size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (memory == MAP_FAILED)
    throw RunError(fmt::format("shm: cannot map a segment of {} bytes: {}", bytes, std::strerror(errno)));
  return {static_cast<std::byte*>(memory), bytes};
}

/// The size of a file that will stay as it is. hugetlbfs has seals too, but faults where its pool is empty.
size_t verified_size(int file) {
  const int seals = fcntl(file, F_GET_SEALS);
  if (seals < 0 || (seals & kNeededSeals) != kNeededSeals)
    throw ProtocolError("shm: got a segment that can change its size, expected one sealed against it");
  struct statfs system {};
  if (fstatfs(file, &system) != 0 || system.f_type != TMPFS_MAGIC)
    throw ProtocolError("shm: got a segment that is not anonymous memory, expected a memfd of ordinary pages");
  struct stat status {};
  if (fstat(file, &status) != 0 || status.st_size < 0) throw ProtocolError("shm: got a segment without a size");
  const auto bytes = static_cast<size_t>(status.st_size);
  if (bytes < kMinSegmentBytes || bytes > kMaxSegmentBytes || bytes % kShmHugePage != 0)
    throw ProtocolError(fmt::format("shm: got a segment of {} bytes, expected a multiple of {} from {} to {}", bytes,
                                    kShmHugePage, kMinSegmentBytes, kMaxSegmentBytes));
  return bytes;
}

}  // namespace

UniqueDescriptor create_shm_file(size_t segment_bytes) {
  const ShmLayout layout = ShmLayout::of(segment_bytes);
  UniqueDescriptor file(memfd_create("tempo-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file || ftruncate(file.get(), static_cast<off_t>(segment_bytes)) != 0 ||
      fcntl(file.get(), F_ADD_SEALS, kSeals) != 0)
    throw RunError(fmt::format("shm: cannot create a segment of {} bytes: {}", segment_bytes, std::strerror(errno)));
  const std::span<std::byte> segment = map(file.get(), segment_bytes);
  write_shm_header(segment, layout);
  munmap(segment.data(), segment.size());
  return file;
}

ShmSegment::ShmSegment(const UniqueDescriptor& file) : bytes_(map(file.get(), verified_size(file.get()))) {
  try {
    layout_ = read_shm_header(bytes_);
  } catch (...) {
    munmap(bytes_.data(), bytes_.size());
    throw;
  }
  // Fewer faults and TLB misses where the system allows huge pages for shared memory; nothing is lost where not.
  madvise(bytes_.data(), bytes_.size(), MADV_HUGEPAGE);
}

ShmSegment::~ShmSegment() { munmap(bytes_.data(), bytes_.size()); }

}  // namespace tempo::wire
