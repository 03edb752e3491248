/// Keeps a folder for one process.
#pragma once

#include <filesystem>

#include "base/descriptor.h"

namespace tempo {

/// Held from construction to destruction. It is a lock of the kernel on the file `lock` in the folder: it goes with its
/// process, however that ends, and what a killed process leaves of it locks nobody out. The file says who has the lock.
class FolderLock {
 public:
  /// @throws InputError, at once, if another process has the folder, naming it, its host and the time; as `fail_at` if
  /// the folder cannot be locked.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  std::filesystem::path path_;
  UniqueDescriptor file_;
};

}  // namespace tempo
