/// A folder that only this user can read, removed with everything in it.
#pragma once

#include <filesystem>

namespace tempo {

class TemporaryFolder {
 public:
  /// In the system's folder for temporary files, under a name that nobody can guess. @throws RunError if none can be
  /// made.
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace tempo
