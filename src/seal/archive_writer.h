/// Seals a tree of files into one archive. Byte layout: docs/formats/sealed-archive.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/secret.h"
#include "seal/archive_format.h"

namespace tempo {
class ThreadPool;
}

namespace tempo::seal {

/// For an archive that a later run may go on with.
struct ResumableSource {
  /// The fingerprint of what is sealed: it must differ whenever the contents may.
  std::array<std::byte, kFingerprintBytes> fingerprint{};
  /// Called now and then while what an earlier run left is verified. @param done bytes of `total`.
  std::function<void(uint64_t done, uint64_t total)> on_verified = [](uint64_t, uint64_t) {};
};

/// Writes PATH.partial, which appears under its name, synced, at `commit`; a file that had the name is replaced then.
/// Holds 1 MiB of plaintext, which is wiped. Not thread-safe.
class SealedArchiveWriter {
 public:
  /// @param entries files with their sizes, and folders where they are empty; the folders above them are added.
  /// @param threads share the work, if not null; borrowed.
  /// @param resume unset: what an earlier run left is thrown away, and so is this, without `commit`. Set: it is kept,
  /// and gone on with if it is of the same key, tree and fingerprint: every whole chunk is opened, and the first that
  /// does not authenticate, and all after it, are sealed again.
  /// @throws InputError as `make_table`; if PATH.partial is no archive, or of another key; RunError on I/O failure.
  SealedArchiveWriter(std::filesystem::path path, const SecretKey& key, std::vector<ArchiveEntry> entries,
                      ThreadPool* threads = nullptr, std::optional<ResumableSource> resume = {});
  ~SealedArchiveWriter();
  SealedArchiveWriter(const SealedArchiveWriter&) = delete;
  SealedArchiveWriter& operator=(const SealedArchiveWriter&) = delete;

  /// In the order in which the contents must be written.
  [[nodiscard]] const std::vector<ArchiveEntry>& entries() const;
  [[nodiscard]] uint64_t content_bytes() const;
  /// Contents that are sealed already: `write` begins after them.
  [[nodiscard]] uint64_t resumed_bytes() const;
  /// PATH.partial was there, but of another tree or fingerprint, and was begun anew.
  [[nodiscard]] bool has_begun_anew() const;
  /// As `SealedArchive::id`.
  [[nodiscard]] std::string id() const;

  /// The contents of all files, one after the other, in pieces of any size. @throws RunError if they cannot be written.
  void write(std::span<const std::byte> bytes);
  /// Call once, after all contents.
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Files in memory, sealed as one archive.
struct NamedBytes {
  std::string path;
  std::span<const std::byte> bytes;
};
/// @returns the archive's id. @throws as SealedArchiveWriter
std::string seal_files(const std::filesystem::path& path, const SecretKey& key, std::vector<NamedBytes> files);

}  // namespace tempo::seal
