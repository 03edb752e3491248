// Implements archive_folder.h: a file or a folder into an archive.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "base/byte_reader.h"
#include "base/descriptor.h"
#include "base/thread_pool.h"
#include "seal/archive_folder.h"
#include "seal/archive_writer.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPieceBytes = size_t{1} << 20U;

/// A file or folder as it was when it was found.
struct Found {
  ArchiveEntry entry;
  fs::path path;
  struct stat status {};
};

std::string shown(const fs::path& path) { return quote_untrusted(path.string(), 256); }

struct stat status_of(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0)
    throw InputError(fmt::format("{}: cannot be inspected: {}", shown(path), std::strerror(errno)));
  return status;
}

Found found(const fs::path& path, std::string name) {
  const struct stat status = status_of(path);
  const bool is_folder = S_ISDIR(status.st_mode);
  if (!is_folder && !S_ISREG(status.st_mode))
    throw InputError(fmt::format("{}: is {}, expected files and folders only", shown(path),
                                 S_ISLNK(status.st_mode) ? "a symbolic link" : "neither file nor folder"));
  return {.entry = {.path = std::move(name),
                    .bytes = is_folder ? 0 : static_cast<uint64_t>(status.st_size),
                    .is_folder = is_folder},
          .path = path,
          .status = status};
}

/// By path in the archive.
std::map<std::string, Found> scan(const fs::path& in) {
  std::map<std::string, Found> all;
  // The source itself may be a link: the user named it.
  std::error_code error;
  const fs::path root = fs::canonical(in, error);
  if (error) throw InputError(fmt::format("{}: cannot be read: {}", shown(in), error.message()));
  if (!S_ISDIR(status_of(root).st_mode)) {
    const std::string name = root.filename().string();
    all.emplace(name, found(root, name));
    return all;
  }
  auto entry = fs::recursive_directory_iterator(root, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().lexically_relative(root).string();
    if (all.size() == kMaxEntries)
      throw InputError(fmt::format("{}: more than {} files and folders", shown(in), kMaxEntries));
    Found one = found(entry->path(), name);
    all.emplace(std::move(name), std::move(one));
  }
  if (error) throw InputError(fmt::format("{}: cannot be read: {}", shown(in), error.message()));
  return all;
}

bool same_file(const struct stat& a, const struct stat& b) {
  const auto equal = [](const timespec& x, const timespec& y) {
    return x.tv_sec == y.tv_sec && x.tv_nsec == y.tv_nsec;
  };
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size && equal(a.st_mtim, b.st_mtim) &&
         equal(a.st_ctim, b.st_ctim);
}

/// A hash of everything by which a change of the source shows. The time of change cannot be set from outside the
/// kernel.
std::array<std::byte, kFingerprintBytes> fingerprint_of(const std::map<std::string, Found>& all) {
  std::vector<std::byte> text;
  const auto add = [&](uint64_t value) { append_u64(text, value); };
  for (const auto& [name, one] : all) {
    const struct stat& s = one.status;
    add(name.size());
    const auto bytes = std::as_bytes(std::span(name.data(), name.size()));
    text.insert(text.end(), bytes.begin(), bytes.end());
    add(one.entry.is_folder ? 1 : 0);
    for (const auto value : {uint64_t{s.st_dev}, uint64_t{s.st_ino}, one.entry.bytes}) add(value);
    for (const timespec& time : {s.st_mtim, s.st_ctim}) {
      add(static_cast<uint64_t>(time.tv_sec));
      add(static_cast<uint64_t>(time.tv_nsec));
    }
  }
  std::array<std::byte, kFingerprintBytes> hash{};
  if (crypto_generichash(reinterpret_cast<unsigned char*>(hash.data()), hash.size(),
                         reinterpret_cast<const unsigned char*>(text.data()), text.size(), nullptr, 0) != 0)
    throw RunError("seal: libsodium could not hash");
  return hash;
}

void refuse_bad_output(const fs::path& in, const fs::path& out) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(out, error)))
    throw InputError(fmt::format("{}: exists already, expected a new name", shown(out)));
  const fs::path root = fs::weakly_canonical(in, error), target = fs::weakly_canonical(out, error);
  const auto ends = std::mismatch(root.begin(), root.end(), target.begin(), target.end());
  if (!root.empty() && ends.first == root.end())
    throw InputError(fmt::format("{}: lies inside what is sealed, {}; expected another place", shown(out), shown(in)));
}

/// Writes what is left of one file. @param from of the file, in bytes.
template <typename Progress>
void seal_file(const Found& file, uint64_t from, SecretBytes& buffer, SealedArchiveWriter& writer,
               const Progress& progress) {
  const auto changed = [&] {
    return RunError(
        fmt::format("{}: changed while it was sealed; run the same again, it begins anew", shown(file.path)));
  };
  const std::string name = shown(file.path);
  const UniqueDescriptor in(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (in.get() < 0) throw InputError(fmt::format("{}: cannot be read: {}", name, std::strerror(errno)));
  const auto check = [&] {
    struct stat now {};
    if (::fstat(in.get(), &now) != 0 || !same_file(now, file.status)) throw changed();
  };
  check();
  while (from < file.entry.bytes) {
    const auto piece = buffer.writable().first(std::min<uint64_t>(buffer.size(), file.entry.bytes - from));
    if (read_at(in.get(), from, piece, name) != piece.size()) throw changed();
    writer.write(piece);
    from += piece.size();
    progress(piece.size());
  }
  check();
}

}  // namespace

SealReport seal_path(const fs::path& in, const fs::path& out, const SecretKey& key, const ArchiveOptions& options) {
  refuse_bad_output(in, out);
  const std::map<std::string, Found> all = scan(in);
  std::vector<ArchiveEntry> entries;
  for (const auto& [name, one] : all) entries.push_back(one.entry);

  ThreadPool threads(options.threads);
  SealedArchiveWriter writer(
      out, key, std::move(entries), &threads,
      ResumableSource{.fingerprint = fingerprint_of(all),
                      .on_verified = [&](uint64_t done, uint64_t total) { options.on_progress(true, done, total); }});
  SealReport report{.archive_id = writer.id(),
                    .bytes = writer.content_bytes(),
                    .resumed_bytes = writer.resumed_bytes(),
                    .has_begun_anew = writer.has_begun_anew()};
  SecretBytes buffer(kPieceBytes);
  uint64_t skip = writer.resumed_bytes(), done = skip;
  for (const ArchiveEntry& entry : writer.entries()) {
    if (entry.is_folder) continue;
    ++report.files;
    const uint64_t from = std::min(skip, entry.bytes);
    skip -= from;
    if (from == entry.bytes && from != 0) continue;  // sealed before the interruption
    seal_file(all.at(entry.path), from, buffer, writer, [&](uint64_t bytes) {
      done += bytes;
      options.on_progress(false, done, report.bytes);
    });
  }
  writer.commit();
  return report;
}

}  // namespace tempo::seal
