#include "base/partial_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/path.h"
#include "tempo/error.h"

namespace tempo {

PartialFile::PartialFile(std::filesystem::path path, int mode)
    : path_(std::move(path)), partial_(path_.string() + ".partial") {
  // O_NONBLOCK: a FIFO of that name is refused below instead of being waited for.
  constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  file_ = UniqueDescriptor(::open(partial_.c_str(), kFlags, mode));
  if (file_.get() < 0) fail_at(partial_, "opened", errno);
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) fail_at(partial_, "inspected", errno);
  if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || status.st_nlink != 1)
    throw InputError(fmt::format(
        "{}: not a regular file of your own with one name, expected what an interrupted run left", partial_.string()));
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) fail_at(partial_, "locked", errno);
    throw InputError(fmt::format("{}: another process is writing it; wait for it, or end it", partial_.string()));
  }
  // Between opening and locking it may have been committed: then this is the finished file.
  struct stat named {};
  if (::lstat(partial_.c_str(), &named) != 0 || named.st_ino != status.st_ino || named.st_dev != status.st_dev)
    throw InputError(fmt::format("{}: another process has just finished it", partial_.string()));
}

uint64_t PartialFile::size() const {
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) fail_at(partial_, "inspected", errno);
  return static_cast<uint64_t>(status.st_size);
}

size_t PartialFile::read_at(uint64_t offset, std::span<std::byte> out) const {
  return tempo::read_at(file_.get(), offset, out, partial_.string());
}

void PartialFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  tempo::write_at(file_.get(), offset, bytes, partial_.string());
}

void PartialFile::truncate(uint64_t size) {
  if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) fail_at(partial_, "cut", errno);
}

void PartialFile::commit() {
  struct stat replaced {};
  if (::lstat(path_.c_str(), &replaced) == 0 && !S_ISREG(replaced.st_mode))
    throw InputError(fmt::format("{}: not a regular file, expected a new name; what was written lies in {}",
                                 path_.string(), partial_.string()));
  if (::fsync(file_.get()) != 0) fail_at(partial_, "synced", errno);
  if (::rename(partial_.c_str(), path_.c_str()) != 0) fail_at(path_, "put in place", errno);
  sync_folder_of(path_);
}

void PartialFile::discard() noexcept { ::unlink(partial_.c_str()); }

}  // namespace tempo
