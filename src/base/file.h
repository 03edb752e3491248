/// Files that are either whole or not there, and files that are read whole.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/descriptor.h"
#include "base/temporary_file.h"

namespace tempo {

/// Writes to a temporary name in the same folder, syncs, then renames: after a crash the old file or the new one is
/// there, never a part. Without `commit` the old file stays. A file that is replaced hands on its owner, group and
/// mode.
///
/// The file that a symbolic link leads to is written, and the link stays. A pipe or a character device (/dev/null,
/// /dev/stdout) is written through. Writing waits for a pipe's reader, until a signal comes. Folders, sockets and block
/// devices are refused.
class AtomicFile {
 public:
  /// @param mode as for open(2), of a file that is new.
  /// @throws InputError for what cannot be written there, RunError if the system fails.
  explicit AtomicFile(const std::filesystem::path& path, mode_t mode = 0644);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  void commit();

 private:
  std::string name_;
  std::optional<TemporaryFile> temporary_;  ///< none: `through_` is written
  UniqueDescriptor through_;
};

/// The same for a name that must be free, e.g. that of a key: neither file, link nor device is replaced or written.
class NewFile {
 public:
  /// @param mode as for open(2), e.g. 0600 for keys. @throws as AtomicFile
  NewFile(const std::filesystem::path& path, mode_t mode) : temporary_(path, mode) {}

  void write(std::span<const std::byte> bytes) { temporary_.write(bytes); }
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  /// @returns false, and writes nothing, if something has the name.
  [[nodiscard]] bool commit() { return temporary_.put_in_place_if_free(); }

 private:
  TemporaryFile temporary_;
};

/// Makes a rename in the folder of `path` last through a loss of power, where the file system can.
void sync_folder_of(const std::filesystem::path& path);

/// Whether writing to `path` writes to standard output: notes then belong elsewhere.
bool is_standard_output(const std::filesystem::path& path);

/// Reads a whole file. @throws InputError if it is missing, unreadable, larger than `max_bytes`, or no regular file.
std::vector<std::byte> read_file(const std::filesystem::path& path, size_t max_bytes);
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes);

/// The same, and it may be a pipe or a device, e.g. <(command) of a shell. @throws RunError if a signal that the
/// program handles comes while it waits for the pipe's writer.
std::vector<std::byte> read_file_or_pipe(const std::filesystem::path& path, size_t max_bytes);
std::string read_text_file_or_pipe(const std::filesystem::path& path, size_t max_bytes);

}  // namespace tempo
