#include "seal/sealed_archive.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/byte_reader.h"
#include "base/descriptor.h"
#include "base/thread_pool.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

using Bytes = std::vector<std::byte>;

/// Sealed bytes, in a file or in memory.
class Source {
 public:
  explicit Source(const std::filesystem::path& path) : name_(path.string()) {
    file_ = UniqueDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status {};
    if (file_.get() < 0 || ::fstat(file_.get(), &status) != 0)
      throw InputError(fmt::format("{}: cannot be read: {}", name_, std::strerror(errno)));
    if (!S_ISREG(status.st_mode)) throw InputError(fmt::format("{}: not a file, expected a sealed archive", name_));
    size_ = static_cast<uint64_t>(status.st_size);
  }
  Source(Bytes bytes, std::string name) : name_(std::move(name)), bytes_(std::move(bytes)), size_(bytes_.size()) {}

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  /// @returns bytes read; fewer than wanted if the file was cut since it was opened.
  size_t read(uint64_t offset, std::span<std::byte> out) const {
    if (file_.get() >= 0) return read_at(file_.get(), offset, out, name_);
    const size_t begin = std::min<uint64_t>(offset, bytes_.size());
    const size_t count = std::min(out.size(), bytes_.size() - begin);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(begin), count, out.begin());
    return count;
  }

 private:
  std::string name_;
  UniqueDescriptor file_;
  Bytes bytes_;
  uint64_t size_ = 0;
};

ArchiveHeader read_header(const Source& source, const SecretKey& key) {
  std::array<std::byte, kArchiveHeaderBytes> bytes{};
  const size_t count = source.read(0, bytes);
  const ArchiveHeader header = parse_archive_header(std::span(bytes).first(count), key, source.name());
  if (source.size() > header.file_bytes())
    throw InputError(fmt::format("{}: {} bytes after chunk {}, the last, expected none", source.name(),
                                 source.size() - header.file_bytes(), header.chunks));
  if (source.size() < header.file_bytes())
    throw InputError(fmt::format("{}: cut short: it ends in chunk {} of {}", source.name(),
                                 (source.size() - kArchiveHeaderBytes) / kSealedChunkBytes + 1, header.chunks));
  return header;
}

}  // namespace

struct SealedArchive::State {
  State(Source from, const SecretKey& key)
      : source(std::move(from)), header(read_header(source, key)), cipher(key, header) {
    read_table();
  }

  /// Opens chunk `index` into `plain`, kArchiveChunkBytes long. @returns whether it is authentic
  bool open_chunk(uint64_t index, std::span<std::byte> plain) const {
    Bytes sealed(kSealedChunkBytes);
    return source.read(kArchiveHeaderBytes + index * kSealedChunkBytes, sealed) == sealed.size() &&
           cipher.open(index, sealed, plain);
  }
  [[noreturn]] void refuse(uint64_t index) const {
    throw InputError(fmt::format("{}: chunk {} of {} was altered or belongs elsewhere: it does not authenticate",
                                 source.name(), index + 1, header.chunks));
  }

  /// Any part of the plaintext; what lies in one chunk's middle goes through the cache.
  void read(uint64_t offset, std::span<std::byte> out, ThreadPool* threads) {
    const auto left_in_chunk = [&] { return kArchiveChunkBytes - offset % kArchiveChunkBytes; };
    if (offset % kArchiveChunkBytes != 0) {
      const size_t count = std::min<size_t>(out.size(), left_in_chunk());
      read_cached(offset, out.first(count));
      offset += count;
      out = out.subspan(count);
    }
    const size_t whole = out.size() / kArchiveChunkBytes;
    read_whole(offset / kArchiveChunkBytes, out.first(whole * kArchiveChunkBytes), threads);
    if (const auto rest = out.subspan(whole * kArchiveChunkBytes); !rest.empty())
      read_cached(offset + whole * kArchiveChunkBytes, rest);
  }

  const Source source;
  const ArchiveHeader header;
  const ArchiveCipher cipher;
  ArchiveTable table;

 private:
  static constexpr size_t kCachedChunks = 4;
  struct Cached {
    uint64_t index = UINT64_MAX, last_use = 0;
    SecretBytes plain;
  };

  void read_whole(uint64_t first, std::span<std::byte> out, ThreadPool* threads) const {
    std::atomic<uint64_t> refused{UINT64_MAX};
    std::mutex mutex;
    std::exception_ptr failure;
    const auto body = [&](int64_t begin, int64_t end) {
      try {
        for (int64_t i = begin; i < end; ++i)
          if (!open_chunk(first + i, out.subspan(i * kArchiveChunkBytes, kArchiveChunkBytes))) {
            const std::lock_guard lock(mutex);
            refused = std::min<uint64_t>(refused, first + i);
          }
      } catch (...) {
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
      }
    };
    const auto count = static_cast<int64_t>(out.size() / kArchiveChunkBytes);
    if (threads != nullptr)
      threads->parallel_for(count, 1, body);
    else
      body(0, count);
    if (failure) std::rethrow_exception(failure);
    if (refused != UINT64_MAX) refuse(refused);
  }

  /// `out` lies inside one chunk.
  void read_cached(uint64_t offset, std::span<std::byte> out) {
    const uint64_t index = offset / kArchiveChunkBytes;
    const std::lock_guard lock(cache_mutex_);
    auto found = std::find_if(cache_.begin(), cache_.end(), [&](const Cached& c) { return c.index == index; });
    if (found == cache_.end()) {
      found = std::min_element(cache_.begin(), cache_.end(),
                               [](const Cached& a, const Cached& b) { return a.last_use < b.last_use; });
      if (found->plain.size() == 0) found->plain = SecretBytes(kArchiveChunkBytes);
      found->index = UINT64_MAX;
      if (!open_chunk(index, found->plain.writable())) refuse(index);
      found->index = index;
    }
    found->last_use = ++uses_;
    std::memcpy(out.data(), found->plain.bytes().data() + offset % kArchiveChunkBytes, out.size());
  }

  void read_table() {
    const std::string name = source.name() + ": inside";
    std::array<std::byte, kTableLengthBytes> length{};
    read(0, length, nullptr);
    const uint64_t bytes = parse_table_length(length, name);
    if (bytes > header.chunks * kArchiveChunkBytes)
      throw InputError(fmt::format("{}: table of files of {} bytes in {} chunks", name, bytes, header.chunks));
    SecretBytes encoded(bytes);
    read(0, encoded.writable(), nullptr);
    table = parse_table(encoded.bytes(), name);
    if (table.chunks() != header.chunks)
      throw InputError(fmt::format("{}: files that fill {} chunks, expected {}", name, table.chunks(), header.chunks));
  }

  std::mutex cache_mutex_;
  std::array<Cached, kCachedChunks> cache_;
  uint64_t uses_ = 0;
};

SealedArchive::SealedArchive(const std::filesystem::path& path, const SecretKey& key)
    : state_(std::make_unique<State>(Source(path), key)) {}
SealedArchive::SealedArchive(std::vector<std::byte> bytes, std::string source, const SecretKey& key)
    : state_(std::make_unique<State>(Source(std::move(bytes), std::move(source)), key)) {}
SealedArchive::~SealedArchive() = default;
SealedArchive::SealedArchive(SealedArchive&&) noexcept = default;
SealedArchive& SealedArchive::operator=(SealedArchive&&) noexcept = default;

std::string SealedArchive::id() const { return to_hex(state_->header.archive_id); }
const std::vector<ArchiveEntry>& SealedArchive::entries() const { return state_->table.entries; }
uint64_t SealedArchive::content_bytes() const { return state_->table.content_bytes; }

const ArchiveEntry* SealedArchive::find(std::string_view path) const {
  const auto& all = entries();
  const auto found = std::lower_bound(all.begin(), all.end(), path,
                                      [](const ArchiveEntry& entry, std::string_view p) { return entry.path < p; });
  return found != all.end() && found->path == path ? &*found : nullptr;
}

void SealedArchive::read(const ArchiveEntry& file, uint64_t offset, std::span<std::byte> out,
                         ThreadPool* threads) const {
  if (offset > file.bytes || out.size() > file.bytes - offset)
    throw InputError(fmt::format("{}: {} bytes of {} from {} on were asked for, it has {}", state_->source.name(),
                                 out.size(), quote_untrusted(file.path), offset, file.bytes));
  state_->read(file.offset + offset, out, threads);
}

SecretBytes SealedArchive::read_all(const ArchiveEntry& file, size_t max_bytes, ThreadPool* threads) const {
  if (file.is_folder || file.bytes > max_bytes)
    throw InputError(fmt::format("{}: {} is {}, expected a file of at most {} bytes", state_->source.name(),
                                 quote_untrusted(file.path),
                                 file.is_folder ? "a folder" : fmt::format("{} bytes", file.bytes), max_bytes));
  SecretBytes bytes(file.bytes);
  read(file, 0, bytes.writable(), threads);
  return bytes;
}

bool looks_like_archive(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return false;  // opening a pipe twice would cut its writer off
  const UniqueDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  std::array<char, kArchiveMagic.size()> begin{};
  return file.get() >= 0 && ::pread(file.get(), begin.data(), begin.size(), 0) == ssize_t{begin.size()} &&
         std::string_view(begin.data(), begin.size()) == kArchiveMagic;
}

}  // namespace tempo::seal
