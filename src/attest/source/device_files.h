/// Files of a kernel or a library operating system: each read and write is one act with a meaning, and an errno.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "attest/types.h"

namespace tempo::attest {

struct FileResult {
  int error = 0;  // errno; 0 if it worked
  Bytes bytes;    // what was read
};

/// An interface so that tests can play the kernel, with every error that it has.
class DeviceFiles {
 public:
  virtual ~DeviceFiles() = default;
  virtual FileResult make_folder(const std::filesystem::path& path) = 0;
  virtual FileResult remove_folder(const std::filesystem::path& path) = 0;
  /// One write of all the bytes, to a file that is there.
  virtual FileResult write(const std::filesystem::path& path, ByteView bytes) = 0;
  /// To its end. EFBIG if that is beyond `max_bytes`.
  virtual FileResult read(const std::filesystem::path& path, size_t max_bytes) = 0;
  [[nodiscard]] virtual bool exists(const std::filesystem::path& path) const = 0;
};

std::unique_ptr<DeviceFiles> make_device_files();

}  // namespace tempo::attest
