#include "base/temporary_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <system_error>

#include "base/file.h"
#include "base/path.h"

namespace tempo {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kInfix = ".tmp.";
constexpr size_t kDigits = 8;
constexpr size_t kMaxNameBytes = 255;  // NAME_MAX of Linux

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

/// What every temporary name of `path` begins with: shortened, so that they are no longer than a name may be.
std::string stem_of(const fs::path& path) {
  std::string name = path.filename().string();
  if (name.size() <= kMaxNameBytes) name.resize(std::min(name.size(), kMaxNameBytes - kInfix.size() - kDigits));
  return name.append(kInfix);
}

bool is_temporary_name(std::string_view name, std::string_view stem) {
  return name.size() == stem.size() + kDigits && name.starts_with(stem) &&
         name.find_first_not_of("0123456789abcdef", stem.size()) == std::string_view::npos;
}

fs::path random_name(const fs::path& folder, const std::string& stem) {
  uint32_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) fail_at(folder / stem, "named", errno);
  return folder / fmt::format("{}{:08x}", stem, number);
}

/// Removes the file if no process has it open as a TemporaryFile.
void remove_if_abandoned(const fs::path& path) {
  const UniqueDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) return;
  if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || status.st_nlink != 1) return;
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
}

void remove_abandoned(const fs::path& folder, const std::string& stem) {
  std::error_code error;
  for (auto entry = fs::directory_iterator(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error))
    if (is_temporary_name(entry->path().filename().string(), stem)) remove_if_abandoned(entry->path());
}

/// False if another process removed the file, or is about to, because it was not locked yet.
bool try_lock(int file, const fs::path& path) {
  if (::flock(file, LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK;  // a file system without locks: nobody can
  struct stat opened {
  }, named{};
  return ::fstat(file, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino;
}

}  // namespace

TemporaryFile::TemporaryFile(fs::path path, mode_t mode) : path_(std::move(path)) {
  const fs::path folder = folder_of(path_);
  const std::string stem = stem_of(path_);
  remove_abandoned(folder, stem);
  do {
    temporary_ = random_name(folder, stem);
    file_ = UniqueDescriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (file_.get() < 0 && errno != EEXIST) fail_at(path_, "created", errno);
  } while (file_.get() < 0 || !try_lock(file_.get(), temporary_));
}

TemporaryFile::~TemporaryFile() {
  if (file_.get() >= 0) ::unlink(temporary_.c_str());
}

void TemporaryFile::look_like(const struct stat& replaced) {
  mode_t mode = replaced.st_mode & 0777U;
  const bool has_group =
      ::fchown(file_.get(), replaced.st_uid, replaced.st_gid) == 0 || ::fchown(file_.get(), -1, replaced.st_gid) == 0;
  if (!has_group) mode &= ~static_cast<mode_t>(070);
  if (::fchmod(file_.get(), mode) != 0) fail_at(path_, "given its mode", errno);
}

void TemporaryFile::sync() {
  if (::fsync(file_.get()) != 0) fail_at(path_, "synced", errno);
}

void TemporaryFile::put_in_place() {
  sync();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_at(path_, "put in place", errno);
  file_.reset();
  sync_folder_of(path_);
}

bool TemporaryFile::put_in_place_if_free() {
  sync();
  bool is_done = ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) == 0;
  if (is_done) {
    file_.reset();
  } else if (errno == EINVAL || errno == ENOSYS) {  // not every file system has it; the destructor removes the old name
    is_done = ::link(temporary_.c_str(), path_.c_str()) == 0;
  }
  if (!is_done && errno != EEXIST) fail_at(path_, "put in place", errno);
  if (is_done) sync_folder_of(path_);
  return is_done;
}

}  // namespace tempo
