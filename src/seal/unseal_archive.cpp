// Implements archive_folder.h: an archive into a folder.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/byte_reader.h"
#include "base/descriptor.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "seal/archive_folder.h"
#include "seal/sealed_archive.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPieceBytes = size_t{1} << 20U;

std::string shown(const fs::path& path) { return quote_untrusted(path.string(), 256); }

/// A folder that is filled step by step. Every name is looked up from its descriptor, one by one, and no symbolic link
/// is followed: nothing is ever written outside of it.
class TargetFolder {
 public:
  /// Opens or makes it. @throws InputError if others may write to it, or it is no folder of this user's.
  explicit TargetFolder(fs::path path) : path_(std::move(path)) {
    if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) fail(path_, "made");
    root_ = UniqueDescriptor(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat status {};
    if (root_.get() < 0 || ::fstat(root_.get(), &status) != 0 || status.st_uid != ::geteuid() ||
        (status.st_mode & 022U) != 0)
      throw InputError(
          fmt::format("{}: not a folder of your own that only you can write to, expected what an "
                      "interrupted unsealing left",
                      shown(path_)));
    if (::flock(root_.get(), LOCK_EX | LOCK_NB) != 0)
      throw InputError(fmt::format("{}: another process is writing it; wait for it, or end it", shown(path_)));
  }

  void make_folder(const std::string& path) const {
    const auto [parent, name] = parent_of(path);
    if (::mkdirat(parent.get(), name.c_str(), 0700) != 0 && errno != EEXIST) fail(path_ / path, "made");
    (void)folder(path);  // or it is something else
  }
  [[nodiscard]] UniqueDescriptor open_file(const std::string& path) const {
    const auto [parent, name] = parent_of(path);
    UniqueDescriptor file(
        ::openat(parent.get(), name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600));
    if (file.get() < 0) fail(path_ / path, "written");
    struct stat status {};
    if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink != 1)
      throw InputError(fmt::format("{}: not a regular file with one name", shown(path_ / path)));
    return file;
  }
  /// "" is the root.
  [[nodiscard]] UniqueDescriptor folder(const std::string& path) const {
    UniqueDescriptor at(::fcntl(root_.get(), F_DUPFD_CLOEXEC, 0));
    for (size_t begin = 0; begin < path.size();) {
      const size_t end = std::min(path.find('/', begin), path.size());
      const std::string name = path.substr(begin, end - begin);
      UniqueDescriptor next(::openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (next.get() < 0) fail(path_ / path, "opened as a folder");
      at = std::move(next);
      begin = end + 1;
    }
    return at;
  }
  [[nodiscard]] const fs::path& path() const { return path_; }

  [[noreturn]] static void fail(const fs::path& path, const char* action) {
    throw RunError(fmt::format("{}: cannot be {}: {}", shown(path), action, std::strerror(errno)));
  }

 private:
  [[nodiscard]] std::pair<UniqueDescriptor, std::string> parent_of(const std::string& path) const {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {folder(""), path};
    return {folder(path.substr(0, slash)), path.substr(slash + 1)};
  }

  fs::path path_;
  UniqueDescriptor root_;
};

/// What is there will appear under the final name: so it may hold nothing but what the archive does.
void refuse_strangers(const fs::path& folder, const SealedArchive& archive) {
  std::error_code error;
  auto entry = fs::recursive_directory_iterator(folder, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().lexically_relative(folder).string();
    const ArchiveEntry* known = archive.find(name);
    const auto type = entry->symlink_status(error).type();
    const bool fits =
        known != nullptr && type == (known->is_folder ? fs::file_type::directory : fs::file_type::regular);
    if (!fits)
      throw InputError(
          fmt::format("{}: is not in the archive as that; expected what an interrupted unsealing left, "
                      "remove {}",
                      shown(entry->path()), shown(folder)));
  }
  if (error) throw RunError(fmt::format("{}: cannot be read: {}", shown(folder), error.message()));
}

struct Buffers {
  SecretBytes plain{kPieceBytes}, there{kPieceBytes};
};

/// Writes one file, except for what is there already. @returns bytes that were there.
template <typename Progress>
uint64_t unseal_file(const SealedArchive& archive, const ArchiveEntry& entry, const UniqueDescriptor& file,
                     const std::string& name, Buffers& buffers, ThreadPool& threads, const Progress& progress) {
  uint64_t kept = 0;
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) TargetFolder::fail(name, "inspected");
  const auto size = static_cast<uint64_t>(status.st_size);
  for (uint64_t from = 0; from < entry.bytes;) {
    // Ends where a chunk of the archive does, so that the next piece is whole chunks.
    const uint64_t to_boundary = kPieceBytes - (entry.offset + from) % kArchiveChunkBytes;
    const size_t count = std::min(to_boundary, entry.bytes - from);
    const auto plain = buffers.plain.writable().first(count);
    archive.read(entry, from, plain, &threads);
    const auto there = buffers.there.writable().first(count);
    if (from + count <= size && read_at(file.get(), from, there, name) == count &&
        std::equal(plain.begin(), plain.end(), there.begin()))
      kept += count;
    else
      write_at(file.get(), from, plain, name);
    from += count;
    progress(count);
  }
  if (::ftruncate(file.get(), static_cast<off_t>(entry.bytes)) != 0) TargetFolder::fail(name, "cut");
  if (::fsync(file.get()) != 0) TargetFolder::fail(name, "synced");
  return kept;
}

void put_in_place(const TargetFolder& target, const fs::path& out, const SealedArchive& archive) {
  for (const ArchiveEntry& entry : archive.entries())
    if (entry.is_folder && ::fsync(target.folder(entry.path).get()) != 0)
      TargetFolder::fail(target.path() / entry.path, "synced");
  if (::fsync(target.folder("").get()) != 0) TargetFolder::fail(target.path(), "synced");
  if (::renameat2(AT_FDCWD, target.path().c_str(), AT_FDCWD, out.c_str(), RENAME_NOREPLACE) != 0)
    TargetFolder::fail(out, "put in place");
  sync_folder_of(out);
}

}  // namespace

UnsealReport unseal_archive(const fs::path& in, const fs::path& given, const SecretKey& key,
                            const ArchiveOptions& options) {
  const fs::path out = given.has_filename() ? given : given.parent_path();  // "DIR/" is DIR
  std::error_code error;
  if (fs::exists(fs::symlink_status(out, error)))
    throw InputError(fmt::format("{}: exists already, expected a new name", shown(out)));
  const SealedArchive archive(in, key);
  const TargetFolder target(out.string() + ".partial");
  refuse_strangers(target.path(), archive);

  UnsealReport report{.archive_id = archive.id(), .bytes = archive.content_bytes()};
  ThreadPool threads(options.threads);
  Buffers buffers;
  uint64_t done = 0;
  for (const ArchiveEntry& entry : archive.entries()) {
    if (entry.is_folder) {
      target.make_folder(entry.path);
      continue;
    }
    ++report.files;
    report.kept_bytes += unseal_file(archive, entry, target.open_file(entry.path), shown(target.path() / entry.path),
                                     buffers, threads, [&](uint64_t bytes) {
                                       done += bytes;
                                       options.on_progress(false, done, report.bytes);
                                     });
  }
  put_in_place(target, out, archive);
  return report;
}

}  // namespace tempo::seal
