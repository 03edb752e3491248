/// Between sealed archives and the file system: a folder, or one file, into an archive and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/secret.h"

namespace tempo::seal {

/// How far it is, in bytes of `total`; `is_checking`: what an interrupted run left is being verified.
using ArchiveProgress = std::function<void(bool is_checking, uint64_t done, uint64_t total)>;

struct ArchiveOptions {
  int threads = 1;
  ArchiveProgress on_progress = [](bool, uint64_t, uint64_t) {};
};

struct SealReport {
  std::string archive_id;
  uint64_t files = 0, bytes = 0;
  uint64_t resumed_bytes = 0;   ///< sealed by an interrupted run before
  bool has_begun_anew = false;  ///< an interrupted run had left something that could not be gone on with
};

/// Seals the file `in`, or what is in the folder `in`, into `out`. Names, sizes and contents are kept; modes, owners
/// and times are not. After an interruption `out`.partial is there, and the same call goes on with it, if every file
/// and folder still has the name, size, inode, and times of modification and change that it had: what is sealed already
/// is opened, and from the first chunk that is not authentic on it is sealed again. Else it begins anew.
/// @throws InputError if `in` is missing or holds a symbolic link or anything else that is no file or folder, if `out`
/// exists or lies inside `in`, or as SealedArchiveWriter; RunError if a file changes while it is sealed, or on I/O
/// failure.
SealReport seal_path(const std::filesystem::path& in, const std::filesystem::path& out, const SecretKey& key,
                     const ArchiveOptions& options = {});

struct UnsealReport {
  std::string archive_id;
  uint64_t files = 0, bytes = 0;
  uint64_t kept_bytes = 0;  ///< were there already, from an interrupted run, and are what the archive holds
};

/// Makes the folder `out` from an archive. Files get mode 0600, folders 0700. Everything is written, and synced, in
/// `out`.partial, which is renamed once it is whole. After an interruption the same call goes on with that folder: all
/// that is in it is compared with the archive, and only what differs is written.
/// @throws InputError if `out` exists, if `out`.partial is not such a folder of this user's or holds something that is
/// not in the archive, or as SealedArchive; RunError on I/O failure.
UnsealReport unseal_archive(const std::filesystem::path& in, const std::filesystem::path& out, const SecretKey& key,
                            const ArchiveOptions& options = {});

}  // namespace tempo::seal
