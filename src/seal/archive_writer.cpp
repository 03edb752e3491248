#include "seal/archive_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstring>

#include "base/byte_reader.h"
#include "base/partial_file.h"
#include "base/thread_pool.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

/// Chunks that are sealed, or verified, at a time: 1 MiB, enough for several threads and few calls of the system.
constexpr size_t kBatch = 16;

void for_each_chunk(ThreadPool* threads, size_t count, const std::function<void(int64_t, int64_t)>& body) {
  if (threads != nullptr)
    threads->parallel_for(static_cast<int64_t>(count), 1, body);
  else
    body(0, static_cast<int64_t>(count));
}

}  // namespace

struct SealedArchiveWriter::State {
  PartialFile file;
  ArchiveTable table;
  ThreadPool* threads;
  const bool keeps_part;
  ArchiveHeader header;
  std::optional<ArchiveCipher> cipher;
  SecretBytes pending{kBatch * kArchiveChunkBytes};
  std::vector<std::byte> sealed = std::vector<std::byte>(kBatch * kSealedChunkBytes);
  size_t filled = 0;        // of `pending`
  uint64_t next_chunk = 0;  // that `pending` begins with
  uint64_t written = 0;     // contents so far, resumed ones included
  uint64_t resumed = 0;     // contents
  bool begun_anew = false;
  bool is_begun = false;  // by this run, and not committed

  State(std::filesystem::path path, ArchiveTable t, ThreadPool* pool, bool keeps)
      : file(std::move(path)), table(std::move(t)), threads(pool), keeps_part(keeps) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (is_begun && !keeps_part) file.discard();
  }

  void begin(const SecretKey& key) {
    header = ArchiveHeader::fresh(key, table.chunks());
    cipher.emplace(key, header);
    file.truncate(0);
    is_begun = true;
    file.write_at(0, header.encode());
  }

  /// Takes over what an earlier run left, as far as it is authentic. @returns false if it is of something else.
  bool take_over(const SecretKey& key, const std::function<void(uint64_t, uint64_t)>& on_verified) {
    const uint64_t size = file.size();
    std::array<std::byte, kArchiveHeaderBytes> head{};
    if (file.read_at(0, head) < head.size()) return false;
    header = parse_archive_header(head, key, file.partial_path().string());
    if (header.chunks != table.chunks()) return false;
    cipher.emplace(key, header);
    next_chunk = verify((std::min(size, header.file_bytes()) - head.size()) / kSealedChunkBytes, on_verified);
    // Only an authentic chunk shows that the header is ours, its random id above all.
    if (next_chunk == 0 || !begins_with_table()) return false;
    file.truncate(kArchiveHeaderBytes + next_chunk * kSealedChunkBytes);
    return true;
  }

  /// What does not begin as an archive is somebody's, and not to be thrown away.
  void refuse_foreign() const {
    std::array<std::byte, kArchiveMagic.size()> begin{};
    const size_t count = file.read_at(0, begin);
    if (std::memcmp(begin.data(), kArchiveMagic.data(), count) != 0)
      throw InputError(fmt::format("{}: not a sealed archive; expected what an interrupted sealing left",
                                   file.partial_path().string()));
  }

  /// @returns how many of the first `count` chunks are authentic without a gap.
  uint64_t verify(uint64_t count, const std::function<void(uint64_t, uint64_t)>& on_verified) {
    for (uint64_t first = 0; first < count; first += kBatch) {
      const size_t batch = std::min<uint64_t>(kBatch, count - first);
      const auto bytes = std::span(sealed).first(batch * kSealedChunkBytes);
      if (file.read_at(kArchiveHeaderBytes + first * kSealedChunkBytes, bytes) != bytes.size()) return first;
      std::array<bool, kBatch> is_authentic{};
      for_each_chunk(threads, batch, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          is_authentic[i] = cipher->open(first + i, bytes.subspan(i * kSealedChunkBytes, kSealedChunkBytes),
                                         pending.writable().subspan(i * kArchiveChunkBytes, kArchiveChunkBytes));
      });
      const auto bad = std::find(is_authentic.begin(), is_authentic.begin() + static_cast<ptrdiff_t>(batch), false);
      if (const auto good = static_cast<size_t>(bad - is_authentic.begin()); good < batch) return first + good;
      on_verified((first + batch) * kArchiveChunkBytes, count * kArchiveChunkBytes);
    }
    return count;
  }

  /// Whether the chunks that were verified begin with the table that would be sealed now, as far as they go.
  bool begins_with_table() {
    const std::vector<std::byte> wanted = encode_table(table);
    for (uint64_t i = 0; i < next_chunk && i * kArchiveChunkBytes < wanted.size(); ++i) {
      const auto bytes = std::span(sealed).first(kSealedChunkBytes);
      const auto plain = pending.writable().first(kArchiveChunkBytes);
      const auto part = std::span(wanted).subspan(i * kArchiveChunkBytes);
      if (file.read_at(kArchiveHeaderBytes + i * kSealedChunkBytes, bytes) != bytes.size() ||
          !cipher->open(i, bytes, plain) ||
          !std::equal(plain.begin(), plain.begin() + static_cast<ptrdiff_t>(std::min(plain.size(), part.size())),
                      part.begin()))
        return false;
    }
    return true;
  }

  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const size_t count = std::min(bytes.size(), pending.size() - filled);
      std::copy_n(bytes.begin(), count, pending.writable().begin() + static_cast<ptrdiff_t>(filled));
      filled += count;
      bytes = bytes.subspan(count);
      if (filled == pending.size()) flush();
    }
  }

  /// Seals what is pending; what is missing of its last chunk is zeros.
  void flush() {
    const size_t chunks = (filled + kArchiveChunkBytes - 1) / kArchiveChunkBytes;
    const auto plain = pending.writable();
    std::fill(plain.begin() + static_cast<ptrdiff_t>(filled), plain.end(), std::byte{0});
    for_each_chunk(threads, chunks, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        cipher->seal(next_chunk + i, plain.subspan(i * kArchiveChunkBytes, kArchiveChunkBytes),
                     std::span(sealed).subspan(i * kSealedChunkBytes, kSealedChunkBytes));
    });
    file.write_at(kArchiveHeaderBytes + next_chunk * kSealedChunkBytes,
                  std::span(sealed).first(chunks * kSealedChunkBytes));
    next_chunk += chunks;
    filled = 0;
  }
};

SealedArchiveWriter::SealedArchiveWriter(std::filesystem::path path, const SecretKey& key,
                                         std::vector<ArchiveEntry> entries, ThreadPool* threads,
                                         std::optional<ResumableSource> resume) {
  ArchiveTable table = resume ? make_table(std::move(entries), resume->fingerprint) : make_table(std::move(entries));
  state_ = std::make_unique<State>(std::move(path), std::move(table), threads, resume.has_value());
  State& s = *state_;
  const bool has_part = s.file.size() != 0;
  if (has_part) s.refuse_foreign();
  const bool goes_on = resume && has_part && s.take_over(key, resume->on_verified);
  s.begun_anew = has_part && !goes_on;
  if (!goes_on) {
    s.next_chunk = 0;
    s.begin(key);
  }
  const uint64_t there = s.next_chunk * kArchiveChunkBytes, table_bytes = s.table.table_bytes;
  s.resumed = s.written = std::min(there - std::min(there, table_bytes), s.table.content_bytes);
  const std::vector<std::byte> encoded = encode_table(s.table);
  s.append(std::span(encoded).subspan(std::min(there, table_bytes)));
}

SealedArchiveWriter::~SealedArchiveWriter() = default;

const std::vector<ArchiveEntry>& SealedArchiveWriter::entries() const { return state_->table.entries; }
uint64_t SealedArchiveWriter::content_bytes() const { return state_->table.content_bytes; }
uint64_t SealedArchiveWriter::resumed_bytes() const { return state_->resumed; }
bool SealedArchiveWriter::has_begun_anew() const { return state_->begun_anew; }
std::string SealedArchiveWriter::id() const { return to_hex(state_->header.archive_id); }

void SealedArchiveWriter::write(std::span<const std::byte> bytes) {
  if (bytes.size() > state_->table.content_bytes - state_->written)
    throw RunError(fmt::format("seal: more than the {} bytes of contents that were announced", content_bytes()));
  state_->written += bytes.size();
  state_->append(bytes);
}

void SealedArchiveWriter::commit() {
  if (state_->written != state_->table.content_bytes)
    throw RunError(fmt::format("seal: {} bytes of contents, {} were announced", state_->written, content_bytes()));
  if (state_->filled != 0) state_->flush();
  assert(state_->next_chunk == state_->header.chunks);
  state_->file.commit();
  state_->is_begun = false;
}

std::string seal_files(const std::filesystem::path& path, const SecretKey& key, std::vector<NamedBytes> files) {
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  std::vector<ArchiveEntry> entries;
  for (const NamedBytes& file : files) entries.push_back({.path = file.path, .bytes = file.bytes.size()});
  SealedArchiveWriter writer(path, key, std::move(entries));
  for (const NamedBytes& file : files) writer.write(file.bytes);
  writer.commit();
  return writer.id();
}

}  // namespace tempo::seal
