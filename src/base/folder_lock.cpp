#include "base/folder_lock.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <string>
#include <string_view>

#include "base/byte_reader.h"
#include "base/path.h"
#include "tempo/error.h"

namespace tempo {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxHolderBytes = 256;

std::string this_process() {
  std::array<char, 128> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  return fmt::format("process {} on {} since {:%Y-%m-%dT%H:%M:%SZ}", ::getpid(), host.data(),
                     fmt::gmtime(std::time(nullptr)));
}

/// What the process that has the lock wrote. It is empty for an instant, after the lock was taken.
std::string holder(int file, const std::string& name) {
  std::array<std::byte, kMaxHolderBytes> bytes{};
  const size_t count = read_at(file, 0, bytes, name);
  if (count == 0) return "another process";
  return quote_untrusted({reinterpret_cast<const char*>(bytes.data()), count}, kMaxHolderBytes);
}

UniqueDescriptor open_lock_file(const fs::path& path, struct stat& status) {
  // O_NONBLOCK: a pipe of that name is refused instead of being waited for.
  UniqueDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644));
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) fail_at(path, "locked", errno);
  if (!S_ISREG(status.st_mode))
    throw InputError(fmt::format("{}: not a regular file, expected none or that of a lock", path.string()));
  return file;
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder) : path_(folder / "lock") {
  struct stat opened {
  }, named{};
  do {
    file_ = open_lock_file(path_, opened);
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) fail_at(path_, "locked", errno);
      throw InputError(fmt::format("{}: in use by {}; wait for it, or end it", folder.string(),
                                   holder(file_.get(), path_.string())));
    }
    // Its last owner may have removed it between opening and locking: then it is no longer what others lock.
  } while (::lstat(path_.c_str(), &named) != 0 || named.st_ino != opened.st_ino || named.st_dev != opened.st_dev);
  const std::string text = this_process();
  if (::ftruncate(file_.get(), 0) != 0) fail_at(path_, "written", errno);
  write_at(file_.get(), 0, std::as_bytes(std::span(text.data(), text.size())), path_.string());
}

FolderLock::~FolderLock() { ::unlink(path_.c_str()); }

}  // namespace tempo
