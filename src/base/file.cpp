#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/descriptor.h"
#include "tempo/error.h"

namespace tempo {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* action) {
  throw RunError(fmt::format("{}: cannot be {}: {}", path.string(), action, std::strerror(errno)));
}

template <typename Container>
Container read_into(const std::filesystem::path& path, size_t max_bytes) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) throw InputError(path.string() + ": is a folder, expected a file");
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) throw InputError(fmt::format("{}: cannot be read: {}", path.string(), std::strerror(errno)));
  const auto size = static_cast<size_t>(in.tellg());
  if (size > max_bytes)
    throw InputError(fmt::format("{}: {} bytes, expected at most {}", path.string(), size, max_bytes));
  Container bytes(size, typename Container::value_type{});
  in.seekg(0);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!in) throw InputError(fmt::format("{}: {} bytes were announced, fewer could be read", path.string(), size));
  return bytes;
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path, int mode)
    : path_(std::move(path)), temporary_(fmt::format("{}.tmp.{}", path_.string(), ::getpid())) {
  ::unlink(temporary_.c_str());  // what a crashed process of the same number left; never somebody else's open file
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
  if (descriptor_ < 0) fail(temporary_, "created");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(temporary_, "written");
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail(temporary_, "synced");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "put in place");
  ::close(descriptor_);
  descriptor_ = -1;
  sync_folder_of(path_);
}

void sync_folder_of(const std::filesystem::path& path) {
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  const UniqueDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() >= 0) ::fsync(descriptor.get());  // else the rename is done; only its durability is uncertain
}

std::vector<std::byte> read_file(const std::filesystem::path& path, size_t max_bytes) {
  return read_into<std::vector<std::byte>>(path, max_bytes);
}
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  return read_into<std::string>(path, max_bytes);
}

}  // namespace tempo
