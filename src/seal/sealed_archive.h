/// Reads a tree of files that only the holder of a key can read, straight out of its sealed archive.
/// Byte layout: docs/formats/sealed-archive.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret.h"
#include "seal/archive_format.h"

namespace tempo {
class ThreadPool;
}

namespace tempo::seal {

/// An open archive. Nothing is handed out that has not been verified: opening verifies the header, the length of the
/// file and the table of files; every read verifies the chunks that it touches, each time it takes them from the file.
/// Holds the table and a few chunks of plaintext, which are wiped. Thread-safe.
///
/// Whoever holds the file but not the key learns its size, rounded up to a chunk, and the key's id, and cannot alter,
/// reorder, cut or extend it unnoticed, nor bring in chunks of another archive. An older archive under the same key in
/// its place is *not* noticed here: compare `id`, which every chunk is bound to.
///
/// All of the calls below throw InputError where the bytes are at fault, naming the chunk (from 1) where it is one, and
/// RunError where reading the file is.
class SealedArchive {
 public:
  SealedArchive(const std::filesystem::path& path, const SecretKey& key);
  /// The same for bytes in memory; `source` names them in messages.
  SealedArchive(std::vector<std::byte> bytes, std::string source, const SecretKey& key);
  ~SealedArchive();
  SealedArchive(SealedArchive&&) noexcept;
  SealedArchive& operator=(SealedArchive&&) noexcept;

  /// 32 hex digits, random for every archive. Public.
  [[nodiscard]] std::string id() const;
  /// Files and folders by path; every folder stands before what is in it.
  [[nodiscard]] const std::vector<ArchiveEntry>& entries() const;
  /// Bytes of all files.
  [[nodiscard]] uint64_t content_bytes() const;
  /// The file or folder of that path, or nullptr.
  [[nodiscard]] const ArchiveEntry* find(std::string_view path) const;

  /// Reads `out.size()` bytes of a file from `offset` on. @param file of `entries()`. @param threads share the work.
  /// @throws InputError also if the file ends before. What was read of `out` until a chunk is refused is authentic.
  void read(const ArchiveEntry& file, uint64_t offset, std::span<std::byte> out, ThreadPool* threads = nullptr) const;
  /// A whole file. @throws InputError also if it is larger than `max_bytes`.
  [[nodiscard]] SecretBytes read_all(const ArchiveEntry& file, size_t max_bytes, ThreadPool* threads = nullptr) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Whether a file begins as a sealed archive does. False also if it cannot be read.
bool looks_like_archive(const std::filesystem::path& path);

}  // namespace tempo::seal
