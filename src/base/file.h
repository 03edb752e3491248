/// Files that are either whole or not there.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tempo {

/// Writes to a temporary name in the same folder, syncs, then renames: after a crash the old file or the new one is
/// there, never a part. Without `commit` the temporary file is removed and the old file stays.
class AtomicFile {
 public:
  /// @throws RunError if the file cannot be created. `mode` as for open(2), e.g. 0600 for keys.
  explicit AtomicFile(std::filesystem::path path, int mode = 0644);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

/// Makes a rename in the folder of `path` last through a loss of power, where the file system can.
void sync_folder_of(const std::filesystem::path& path);

/// Reads a whole file. @throws InputError if it is missing, unreadable, or larger than `max_bytes`.
std::vector<std::byte> read_file(const std::filesystem::path& path, size_t max_bytes);
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes);

}  // namespace tempo
