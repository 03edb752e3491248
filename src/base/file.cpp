#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "base/path.h"
#include "tempo/error.h"

namespace tempo {
namespace {

namespace fs = std::filesystem;

/// N, if the path is /dev/fd/N or /proc/self/fd/N of this process.
std::optional<int> own_descriptor(const fs::path& path) {
  const std::string name = path.filename().string();
  int number = -1;
  const auto [end, problem] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (problem != std::errc() || end != name.data() + name.size() || number < 0) return std::nullopt;
  std::error_code error;
  const fs::path folder = fs::canonical(path.parent_path(), error);
  if (error || folder != fs::canonical("/proc/self/fd", error) || error) return std::nullopt;
  return number;
}

/// Where the symbolic links under that name lead: a file, a name that is free, or a descriptor of this process.
fs::path followed(fs::path path) {
  constexpr int kMostLinks = 40;  // as Linux
  for (int i = 0; i < kMostLinks && !own_descriptor(path); ++i) {
    std::error_code error;
    const fs::path next = fs::read_symlink(path, error);
    if (error) break;
    path = path.parent_path() / next;
  }
  return path;
}

UniqueDescriptor duplicate_for_writing(int descriptor, const fs::path& path) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY) fail_at(path, "written", EACCES);
  UniqueDescriptor copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
  if (copy.get() < 0) throw InputError(fmt::format("{}: is not open, expected an open descriptor", path.string()));
  return copy;
}

/// Waits for the reader of a pipe.
UniqueDescriptor open_to_write_through(const fs::path& path) {
  for (;;) {
    UniqueDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (file.get() >= 0) return file;
    if (errno != ENXIO) fail_at(path, "written", errno);
    constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 20'000'000};
    if (::nanosleep(&kPause, nullptr) != 0)
      throw RunError(fmt::format("{}: interrupted while waiting for a reader of this pipe", path.string()));
  }
}

/// The file at `path`, ready to be read without waiting.
UniqueDescriptor open_to_read(const fs::path& path, struct stat& status) {
  UniqueDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) fail_at(path, "read", errno);
  if (S_ISDIR(status.st_mode)) throw InputError(path.string() + ": is a folder, expected a file");
  return file;
}

template <typename Container>
Container read_into(const fs::path& path, size_t max_bytes, bool may_be_pipe) {
  struct stat status {};
  const UniqueDescriptor file = open_to_read(path, status);
  const std::string name = path.string();
  size_t expected = 0;
  if (S_ISREG(status.st_mode)) {
    expected = static_cast<size_t>(status.st_size);
    if (expected > max_bytes)
      throw InputError(fmt::format("{}: {} bytes, expected at most {}", name, expected, max_bytes));
  } else if (may_be_pipe) {
    wait_until_ready(file.get(), POLLIN, name);  // a pipe without a writer would seem to be empty
  } else {
    throw InputError(fmt::format("{}: is a pipe or a device, expected a regular file", name));
  }
  Container bytes(expected + 1, typename Container::value_type{});  // and one more, to see the end
  for (size_t total = 0;;) {
    const size_t count = read_next(file.get(), std::as_writable_bytes(std::span(bytes)).subspan(total), name);
    total += count;
    if (total > max_bytes) throw InputError(fmt::format("{}: more than {} bytes, expected no more", name, max_bytes));
    if (count == 0) {
      bytes.resize(total);
      return bytes;
    }
    constexpr size_t kLeastBytes = 4096;
    if (total == bytes.size()) bytes.resize(std::min(std::max(2 * total, kLeastBytes), max_bytes + 1));
  }
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& path, mode_t mode) : name_(path.string()) {
  // By the kernel first: it refuses links that others planted where they may write.
  struct stat status {};
  const bool is_free = ::stat(path.c_str(), &status) != 0;
  if (is_free && errno != ENOENT) fail_at(path, "written", errno);
  const fs::path target = followed(path);
  if (const auto descriptor = own_descriptor(target)) {
    through_ = duplicate_for_writing(*descriptor, path);
  } else if (is_free || S_ISREG(status.st_mode)) {
    temporary_.emplace(target, is_free ? mode : mode_t{0600});
    if (!is_free) temporary_->look_like(status);
  } else if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
    through_ = open_to_write_through(path);
  } else {
    throw InputError(fmt::format("{}: is {}, expected a file to write", name_,
                                 S_ISDIR(status.st_mode) ? "a folder" : "a socket or a block device"));
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (temporary_)
    temporary_->write(bytes);
  else
    write_next(through_.get(), bytes, name_);
}

void AtomicFile::commit() {
  if (temporary_) temporary_->put_in_place();
  through_.reset();
}

void sync_folder_of(const fs::path& path) {
  const auto folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const UniqueDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() >= 0) ::fsync(descriptor.get());  // else the rename is done; only its durability is uncertain
}

bool is_standard_output(const fs::path& path) {
  struct stat named {
  }, standard{};
  return ::stat(path.c_str(), &named) == 0 && ::fstat(STDOUT_FILENO, &standard) == 0 &&
         named.st_dev == standard.st_dev && named.st_ino == standard.st_ino;
}

std::vector<std::byte> read_file(const fs::path& path, size_t max_bytes) {
  return read_into<std::vector<std::byte>>(path, max_bytes, false);
}
std::string read_text_file(const fs::path& path, size_t max_bytes) {
  return read_into<std::string>(path, max_bytes, false);
}
std::vector<std::byte> read_file_or_pipe(const fs::path& path, size_t max_bytes) {
  return read_into<std::vector<std::byte>>(path, max_bytes, true);
}
std::string read_text_file_or_pipe(const fs::path& path, size_t max_bytes) {
  return read_into<std::string>(path, max_bytes, true);
}

}  // namespace tempo
