/// Files that only the holder of the sealing key can read, and that nobody else can alter unnoticed.
/// Byte layout: docs/formats/sealed-file.md.
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

namespace tempo::seal {

/// Plaintext bytes of every chunk but the last.
inline constexpr size_t kChunkBytes = 65536;
/// Longest `kind`, in bytes.
inline constexpr size_t kMaxKindBytes = 64;

/// Seals a stream of bytes into a file, chunk by chunk; holds one chunk in memory, which is wiped.
/// The file appears under its name at `commit` and not before; without it the old file, if any, stays.
/// An adversary who holds the file learns its kind, the key's id and the plaintext's length; nothing else, and cannot
/// alter, reorder, cut or extend it unnoticed. An older sealed file put in its place is *not* noticed.
/// Not thread-safe.
class SealedWriter {
 public:
  /// @param kind what the file holds, e.g. "checkpoint": 1..64 bytes UTF-8; a reader must ask for the same.
  /// @throws InputError for a bad kind; RunError if the file cannot be created.
  SealedWriter(std::filesystem::path path, const SecretKey& key, std::string_view kind);
  ~SealedWriter();
  SealedWriter(const SealedWriter&) = delete;
  SealedWriter& operator=(const SealedWriter&) = delete;

  /// @throws RunError if the file cannot be written.
  void write(std::span<const std::byte> bytes);
  /// Call once; nothing may be written afterwards.
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Opens a sealed file. The whole of it has been verified when this returns; on failure nothing is returned and what
/// was decrypted is wiped.
/// @param max_bytes largest plaintext accepted.
/// @throws InputError, one message each, if it is not a sealed file, has an unknown version, is of another kind, was
/// sealed under another key, has an altered chunk, is cut short, goes on after its final chunk, or is too large.
std::vector<std::byte> unseal_file(const std::filesystem::path& path, const SecretKey& key, std::string_view kind,
                                   size_t max_bytes);

/// The same for bytes in memory; `source` names them in messages.
std::vector<std::byte> unseal(std::span<const std::byte> sealed, const std::string& source, const SecretKey& key,
                              std::string_view kind, size_t max_bytes);

}  // namespace tempo::seal
