#include "seal/key_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/csprng.h"
#include "base/descriptor.h"
#include "base/file.h"
#include "base/path.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

constexpr std::string_view kPrefix = "tempo-key-v1 ";
constexpr size_t kHexDigits = 2 * SecretKey::kBytes;
constexpr size_t kLineBytes = kPrefix.size() + kHexDigits + 1;  // and the newline

/// The text of a key file, and one byte more so that a longer file shows. Wiped when done with.
struct LineBuffer {
  std::array<char, kLineBytes + 1> text{};
  LineBuffer() = default;
  LineBuffer(const LineBuffer&) = delete;
  LineBuffer& operator=(const LineBuffer&) = delete;
  ~LineBuffer() { sodium_memzero(text.data(), text.size()); }
};

void check_is_private(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0)
    throw InputError(fmt::format("{}: key file cannot be inspected: {}", path.string(), std::strerror(errno)));
  if (!S_ISREG(status.st_mode))
    throw InputError(fmt::format("{}: not a regular file, expected a key file", path.string()));
  if (status.st_uid != ::geteuid())
    throw InputError(fmt::format("{}: key file belongs to another user, expected one of your own", path.string()));
  if ((status.st_mode & 077U) != 0)
    throw InputError(fmt::format("{}: key file has mode {:04o}, open to group or others; expected 0600 (chmod 600 it)",
                                 path.string(), status.st_mode & 07777U));
}

size_t read_up_to(int descriptor, char* out, size_t capacity, const std::filesystem::path& path) {
  size_t total = 0;
  while (total < capacity) {
    const ssize_t count = ::read(descriptor, out + total, capacity - total);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw InputError(fmt::format("{}: key file cannot be read: {}", path.string(), std::strerror(errno)));
    if (count == 0) break;
    total += static_cast<size_t>(count);
  }
  return total;
}

void create_missing_folders(const std::filesystem::path& folder) {
  if (folder.empty() || is_there(folder)) return;
  create_missing_folders(folder.parent_path());
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) fail_at(folder, "made for a key", errno);
}

/// False if the name is taken.
bool try_create_key(const std::filesystem::path& path) {
  if (is_there(path)) return false;
  const SecretKey key = SecretKey::random();
  LineBuffer line;
  std::memcpy(line.text.data(), kPrefix.data(), kPrefix.size());
  sodium_bin2hex(line.text.data() + kPrefix.size(), kHexDigits + 1, key.data(), SecretKey::kBytes);
  line.text[kLineBytes - 1] = '\n';

  create_missing_folders(path.parent_path());
  NewFile file(path, 0600);
  file.write({line.text.data(), kLineBytes});
  return file.commit();
}

}  // namespace

SecretKey load_key(const std::filesystem::path& path) {
  // O_NONBLOCK: a FIFO under that name is refused below instead of being waited for.
  const UniqueDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0)
    throw InputError(fmt::format("{}: key file cannot be opened: {}", path.string(), std::strerror(errno)));
  check_is_private(file.get(), path);

  LineBuffer line;
  size_t length = read_up_to(file.get(), line.text.data(), line.text.size(), path);
  if (length == kLineBytes && line.text[length - 1] == '\n') --length;
  SecretKey key;
  size_t decoded = 0;
  const bool whole = length == kLineBytes - 1 && std::string_view(line.text.data(), kPrefix.size()) == kPrefix &&
                     sodium_hex2bin(reinterpret_cast<unsigned char*>(key.writable().data()), SecretKey::kBytes,
                                    line.text.data() + kPrefix.size(), kHexDigits, nullptr, &decoded, nullptr) == 0 &&
                     decoded == SecretKey::kBytes;
  if (!whole)
    throw InputError(fmt::format("{}: not a key file; expected one line, \"{}\" and {} hex digits", path.string(),
                                 kPrefix, kHexDigits));
  return key;
}

void create_key(const std::filesystem::path& path) {
  if (!try_create_key(path))
    throw InputError(fmt::format("{}: exists already; a key is never overwritten, expected a new name", path.string()));
}

SecretKey load_or_create_key(const std::filesystem::path& path, bool* created) {
  const bool made = try_create_key(path);
  if (created != nullptr) *created = made;
  return load_key(path);
}

std::filesystem::path default_key_path() {
  const auto absolute_from = [](const char* variable) -> std::filesystem::path {
    const char* value = std::getenv(variable);
    const std::filesystem::path path = value == nullptr ? "" : value;
    return path.is_absolute() ? path : std::filesystem::path();
  };
  std::filesystem::path config = absolute_from("XDG_CONFIG_HOME");
  if (config.empty()) {
    const auto home = absolute_from("HOME");
    if (home.empty())
      throw InputError("default key: neither XDG_CONFIG_HOME nor HOME is an absolute path; name the key file instead");
    config = home / ".config";
  }
  return config / "tempo" / "checkpoint.key";
}

std::string key_id(const SecretKey& key) {
  constexpr size_t kIdBytes = 8;
  const SecretKey derived = derive_key(key, "key-id");
  std::string hex(2 * kIdBytes + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), derived.data(), kIdBytes);
  hex.pop_back();
  return hex;
}

}  // namespace tempo::seal
