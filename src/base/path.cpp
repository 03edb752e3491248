#include "base/path.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "tempo/error.h"

namespace tempo {
namespace {

bool is_of_the_path(int error) {
  switch (error) {
    case EACCES:
    case EEXIST:
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENODEV:
    case ENOENT:
    case ENOTDIR:
    case ENXIO:
    case EPERM:
    case EROFS:
      return true;
    default:
      return false;
  }
}

}  // namespace

void fail_at(const std::filesystem::path& path, std::string_view action, int error) {
  const std::string message = fmt::format("{}: cannot be {}: {}", path.string(), action, std::strerror(error));
  if (is_of_the_path(error)) throw InputError(message);
  throw RunError(message);
}

bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  const bool found = std::filesystem::exists(path, error);
  if (error) fail_at(path, "looked up", error.value());
  return found;
}

void make_folders(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_at(folder, "made", error.value());
}

}  // namespace tempo
