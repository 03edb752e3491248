/// What the file system says of a path, as errors of Tempo.
#pragma once

#include <filesystem>
#include <string_view>

namespace tempo {

/// Throws "PATH: cannot be ACTION: reason". An InputError where another path or other permissions would do: a name that
/// is too long, a missing folder, a file in a folder's place, a read-only file system. A RunError otherwise, e.g. for a
/// full disk. @param action e.g. "written". @param error as errno.
[[noreturn]] void fail_at(const std::filesystem::path& path, std::string_view action, int error);

/// Whether something has that name; links are followed. @throws InputError if that cannot be found out.
bool is_there(const std::filesystem::path& path);

/// Makes the folder and those above it, where they are missing. @throws InputError or RunError, as `fail_at`.
void make_folders(const std::filesystem::path& folder);

}  // namespace tempo
