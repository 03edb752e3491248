/// The bytes of a sealed archive: header, chunks, table of files. Layout and reasons: docs/formats/sealed-archive.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret.h"
#include "seal/secret_stream.h"

namespace tempo::seal {

inline constexpr std::string_view kArchiveMagic = "TEMPOARC";
/// Plaintext bytes of every chunk; the last is filled up with zeros.
inline constexpr size_t kArchiveChunkBytes = 65536;
inline constexpr size_t kSealedChunkBytes = kStreamHeaderBytes + kArchiveChunkBytes + kTagBytes;
inline constexpr size_t kArchiveIdBytes = 16;
inline constexpr size_t kArchiveHeaderBytes = 8 + 4 + 4 + kKeyIdBytes + kArchiveIdBytes + 8;
inline constexpr size_t kFingerprintBytes = 32;

/// Caps. Larger trees are refused by writer and reader alike.
inline constexpr size_t kMaxEntries = size_t{1} << 20U;
inline constexpr size_t kMaxNameBytes = 255, kMaxPathBytes = 4096, kMaxDepth = 64;
inline constexpr size_t kMaxTableBytes = size_t{64} << 20U;
/// A limit for all files together, such that no sum of sizes overflows.
inline constexpr uint64_t kMaxContentBytes = uint64_t{1} << 56U;

/// What is readable without the key. All of it is authenticated by every chunk.
struct ArchiveHeader {
  std::array<std::byte, kKeyIdBytes> key_id{};
  std::array<std::byte, kArchiveIdBytes> archive_id{};  ///< random
  uint64_t chunks = 0;                                  ///< at least 1

  /// Made from a key and fresh randomness.
  static ArchiveHeader fresh(const SecretKey& key, uint64_t chunks);
  [[nodiscard]] std::array<std::byte, kArchiveHeaderBytes> encode() const;
  [[nodiscard]] uint64_t file_bytes() const { return kArchiveHeaderBytes + chunks * kSealedChunkBytes; }
};
/// @throws InputError if these are not an archive's first bytes, or of another version or chunk size, or were sealed
/// under another key.
ArchiveHeader parse_archive_header(std::span<const std::byte> bytes, const SecretKey& key, const std::string& source);

/// Seals and opens chunks of one archive, in any order. Thread-safe.
class ArchiveCipher {
 public:
  ArchiveCipher(const SecretKey& key, const ArchiveHeader& header);
  /// @param index of the chunk, from 0. @param plain kArchiveChunkBytes. @param sealed kSealedChunkBytes.
  void seal(uint64_t index, std::span<const std::byte> plain, std::span<std::byte> sealed) const;
  /// @returns false if this is not chunk `index` of this archive as it was sealed; `plain` is then as it was.
  [[nodiscard]] bool open(uint64_t index, std::span<const std::byte> sealed, std::span<std::byte> plain) const;

 private:
  using Additional = std::array<std::byte, kArchiveHeaderBytes + 8>;
  [[nodiscard]] Additional additional(uint64_t index) const;
  [[nodiscard]] uint8_t tag(uint64_t index) const { return index + 1 == chunks_ ? kFinalTag : kMessageTag; }

  std::array<std::byte, kArchiveHeaderBytes> header_;
  uint64_t chunks_;
  SecretKey key_;
};

/// A file or a folder in an archive.
struct ArchiveEntry {
  std::string path;  ///< from the root of the tree, names separated by '/'
  uint64_t bytes = 0;
  bool is_folder = false;
  uint64_t offset = 0;  ///< of the file's first byte in the archive's plaintext; set by the table
};

/// The first plaintext of an archive. The contents of its files follow in its order.
struct ArchiveTable {
  std::vector<ArchiveEntry> entries;  ///< by path, bytewise; every folder stands before what is in it
  /// The fingerprint of what an archive was made from, for resuming; zero if nothing can be resumed.
  std::array<std::byte, kFingerprintBytes> fingerprint{};
  uint64_t table_bytes = 0;    ///< encoded
  uint64_t content_bytes = 0;  ///< of all files

  [[nodiscard]] uint64_t chunks() const;
};

/// Sorts, adds the folders above every entry, checks and lays out.
/// @throws InputError for a path that is not relative and plain ("..", a control character, too long, too deep), one
/// that comes twice, one below a file, or a tree beyond the caps.
ArchiveTable make_table(std::vector<ArchiveEntry> entries, std::span<const std::byte> fingerprint = {});
std::vector<std::byte> encode_table(const ArchiveTable& table);

/// The first field of a table: its length. @throws InputError if it is beyond what a table may have.
inline constexpr size_t kTableLengthBytes = 8;
uint64_t parse_table_length(std::span<const std::byte> bytes, const std::string& source);
/// @param bytes the whole table. @throws InputError for anything that `make_table` would refuse or do otherwise.
ArchiveTable parse_table(std::span<const std::byte> bytes, const std::string& source);

}  // namespace tempo::seal
