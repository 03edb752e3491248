/// A file that several runs may have to finish.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/descriptor.h"

namespace tempo {

/// Lies beside its final name as NAME.partial, survives an interruption, and appears under its name, synced, at
/// `commit`: there is never a part of it under that name. One process at a time has it. Not thread-safe, except for
/// `read_at`.
class PartialFile {
 public:
  /// Opens what an earlier run left, or makes an empty file. @param mode as for open(2).
  /// @throws InputError if another process is at it, it is not a regular file of this user's, or nothing can be written
  /// there; RunError if the system fails.
  explicit PartialFile(std::filesystem::path path, int mode = 0644);

  [[nodiscard]] uint64_t size() const;
  /// @returns bytes read: fewer than wanted only at the end. @throws RunError
  size_t read_at(uint64_t offset, std::span<std::byte> out) const;
  void write_at(uint64_t offset, std::span<const std::byte> bytes);
  void truncate(uint64_t size);
  /// Call once, last. A regular file that had the name is replaced. @throws InputError if anything else has it;
  /// RunError
  void commit();
  /// Removes what there is: nothing is to be gone on with.
  void discard() noexcept;

  /// NAME.partial
  [[nodiscard]] const std::filesystem::path& partial_path() const { return partial_; }

 private:
  std::filesystem::path path_, partial_;
  UniqueDescriptor file_;
};

}  // namespace tempo
