#include "attest/source/device_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace tempo::attest {
namespace {

FileResult result_of(int outcome) { return {outcome < 0 ? errno : 0, {}}; }

class PosixFiles final : public DeviceFiles {
 public:
  FileResult make_folder(const std::filesystem::path& path) override { return result_of(::mkdir(path.c_str(), 0700)); }
  FileResult remove_folder(const std::filesystem::path& path) override { return result_of(::rmdir(path.c_str())); }

  FileResult write(const std::filesystem::path& path, ByteView bytes) override {
    const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) return {errno, {}};
    ssize_t count = 0;
    do count = ::write(file, bytes.data(), bytes.size());
    while (count < 0 && errno == EINTR);
    const int error = count < 0 ? errno : static_cast<size_t>(count) == bytes.size() ? 0 : EIO;
    // configfs may tell of an error only when the file is closed.
    const bool is_closed = ::close(file) == 0;
    return {error != 0 ? error : is_closed ? 0 : errno, {}};
  }

  FileResult read(const std::filesystem::path& path, size_t max_bytes) override {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) return {errno, {}};
    FileResult result;
    result.bytes.resize(max_bytes + 1);
    size_t total = 0;
    while (total < result.bytes.size()) {
      const ssize_t count = ::read(file, result.bytes.data() + total, result.bytes.size() - total);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) result.error = errno;
      if (count <= 0) break;
      total += static_cast<size_t>(count);
    }
    ::close(file);
    if (total > max_bytes) result.error = EFBIG;
    result.bytes.resize(result.error == 0 ? total : 0);
    return result;
  }

  [[nodiscard]] bool exists(const std::filesystem::path& path) const override {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  }
};

}  // namespace

std::unique_ptr<DeviceFiles> make_device_files() { return std::make_unique<PosixFiles>(); }

}  // namespace tempo::attest
