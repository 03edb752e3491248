#include "seal/archive_folder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <optional>

#include "base/csprng.h"
#include "base/file.h"
#include "seal/archive_writer.h"
#include "seal/key_file.h"
#include "seal/sealed_archive.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace archive_folder_test {

namespace fs = std::filesystem;
using ::tempo::testing::message_of;
using ::tempo::testing::TempFolder;
using ::tempo::testing::write_bytes;
using ::tempo::testing::write_text;
using ::testing::HasSubstr;

using Bytes = std::vector<std::byte>;
using Tree = std::map<std::string, std::optional<Bytes>>;  // by path; a folder has no bytes

constexpr size_t kChunk = kArchiveChunkBytes, kLimit = size_t{1} << 26U;

/// What a test throws to interrupt.
struct Interruption : std::exception {};

class ArchiveFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(in_ / "sub/empty folder");
    const auto write = [&](const std::string& name, size_t size) {
      Bytes bytes(size);
      Csprng(key_from_seed_insecure(size)).fill(bytes);
      write_bytes(in_ / name, bytes);
    };
    write("a.bin", 20 * kChunk + 17);
    write("empty", 0);
    write("sub/b.bin", 17 * kChunk);
    write("sub/small", 3);
    write("z.bin", 5 * kChunk - 1);
  }

  static Tree tree(const fs::path& folder) {
    Tree found;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const std::string name = entry.path().lexically_relative(folder).string();
      found[name] = entry.is_directory() ? std::nullopt : std::optional(read_file(entry.path(), kLimit));
    }
    return found;
  }
  SealReport seal() const { return seal_path(in_, sealed_, key_, {.threads = 2}); }
  UnsealReport unseal() const { return unseal_archive(sealed_, out_, key_, {.threads = 2}); }
  /// Seals until `bytes` of contents went in, then is interrupted.
  void seal_until(uint64_t bytes) const {
    const auto stop = [&](bool is_checking, uint64_t done, uint64_t) {
      if (!is_checking && done >= bytes) throw Interruption();
    };
    EXPECT_THROW(seal_path(in_, sealed_, key_, {.threads = 2, .on_progress = stop}), Interruption);
    EXPECT_TRUE(fs::exists(partial_));
    EXPECT_FALSE(fs::exists(sealed_));
  }
  void unseal_until(uint64_t bytes) const {
    const auto stop = [&](bool, uint64_t done, uint64_t) {
      if (done >= bytes) throw Interruption();
    };
    EXPECT_THROW(unseal_archive(sealed_, out_, key_, {.threads = 2, .on_progress = stop}), Interruption);
    EXPECT_TRUE(fs::exists(out_partial_));
    EXPECT_FALSE(fs::exists(out_));
  }

  const TempFolder folder_;
  const fs::path in_ = folder_ / "in", sealed_ = folder_ / "x.sealed", out_ = folder_ / "out";
  const fs::path partial_ = folder_ / "x.sealed.partial", out_partial_ = folder_ / "out.partial";
  const SecretKey key_ = key_from_seed_insecure(1);
};

TEST_F(ArchiveFolder, ASealedTreeUnsealsToTheSameTree) {
  const SealReport sealed = seal();
  EXPECT_EQ(sealed.files, 5U);
  EXPECT_EQ(sealed.bytes, 42 * kChunk + 17 + 3 - 1);
  EXPECT_EQ(sealed.resumed_bytes, 0U);
  EXPECT_FALSE(sealed.has_begun_anew);
  const UnsealReport unsealed = unseal();
  EXPECT_EQ(unsealed.archive_id, sealed.archive_id);
  EXPECT_EQ(unsealed.files, 5U);
  EXPECT_EQ(unsealed.kept_bytes, 0U);
  EXPECT_EQ(tree(out_), tree(in_));
  EXPECT_FALSE(fs::exists(partial_));
  EXPECT_FALSE(fs::exists(out_partial_));
  struct stat status {};
  ASSERT_EQ(::stat((out_ / "a.bin").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  ASSERT_EQ(::stat(out_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
}

TEST_F(ArchiveFolder, ASingleSealedFileKeepsItsName) {
  seal_path(in_ / "sub/small", sealed_, key_);
  unseal_archive(sealed_, fs::path(out_.string() + "/"), key_);
  EXPECT_EQ(tree(out_), (Tree{{"small", read_file(in_ / "sub/small", 10)}}));
}

TEST_F(ArchiveFolder, AnEmptyFolderCanBeSealed) {
  seal_path(in_ / "sub/empty folder", sealed_, key_);
  EXPECT_EQ(unseal().files, 0U);
  EXPECT_EQ(tree(out_), Tree());
}

TEST_F(ArchiveFolder, SealingContinuesAfterAnInterruptionAnywhere) {
  const uint64_t total = 42 * kChunk + 19;
  for (const uint64_t bytes : {uint64_t{1}, 16 * kChunk, 20 * kChunk + 17, 33 * kChunk, total}) {
    SCOPED_TRACE(bytes);
    seal_until(bytes);
    const auto there = (fs::file_size(partial_) - kArchiveHeaderBytes) / kSealedChunkBytes;
    const SealReport report = seal();
    // Nothing is written before 16 chunks are full, and the table takes a part of the first.
    EXPECT_EQ(report.resumed_bytes == 0, there == 0);
    EXPECT_LE(report.resumed_bytes, there * kChunk);
    EXPECT_GE(report.resumed_bytes + kChunk, there * kChunk);
    EXPECT_EQ(report.has_begun_anew, there == 0);
    unseal();
    EXPECT_EQ(tree(out_), tree(in_));
    fs::remove_all(out_);
    fs::remove(sealed_);
  }
}

TEST_F(ArchiveFolder, ACompletePartialFileIsOnlyRenamed) {
  const SealReport first = seal();
  fs::rename(sealed_, partial_);
  const SealReport again = seal();
  EXPECT_EQ(again.archive_id, first.archive_id);
  EXPECT_EQ(again.resumed_bytes, again.bytes);
  unseal();
  EXPECT_EQ(tree(out_), tree(in_));
}

TEST_F(ArchiveFolder, TornAndAlteredChunksAreSealedAgain) {
  seal_until(33 * kChunk);
  const auto whole = fs::file_size(partial_);
  fs::resize_file(partial_, whole - 100);
  EXPECT_EQ(seal().resumed_bytes / kChunk, 30U);  // of 32 chunks one is torn; the table is in the first
  unseal();
  EXPECT_EQ(tree(out_), tree(in_));

  fs::rename(sealed_, partial_);
  Bytes bytes = read_file(partial_, kLimit);
  bytes[kArchiveHeaderBytes + 7 * kSealedChunkBytes + 5000] ^= std::byte{1};
  write_bytes(partial_, bytes);
  EXPECT_EQ(seal().resumed_bytes / kChunk, 6U);
  fs::remove_all(out_);
  unseal();
  EXPECT_EQ(tree(out_), tree(in_));
}

TEST_F(ArchiveFolder, AChangedSourceIsSealedAnewUnderAnotherId) {
  seal_until(33 * kChunk);
  const Bytes before = read_file(partial_, kArchiveHeaderBytes + kLimit);
  // The same size, the same contents, the same time of modification: the time of change still tells.
  const auto time = fs::last_write_time(in_ / "a.bin");
  write_bytes(in_ / "a.bin", read_file(in_ / "a.bin", kLimit));
  fs::last_write_time(in_ / "a.bin", time);
  const SealReport report = seal();
  EXPECT_TRUE(report.has_begun_anew);
  EXPECT_EQ(report.resumed_bytes, 0U);
  const Bytes after = read_file(sealed_, kLimit);
  EXPECT_FALSE(std::equal(after.begin() + 24, after.begin() + 40, before.begin() + 24));
  unseal();
  EXPECT_EQ(tree(out_), tree(in_));
}

TEST_F(ArchiveFolder, AFileThatChangesWhileItIsSealedIsNoticed) {
  const auto touch = [&](bool, uint64_t done, uint64_t) {
    if (done == 16 * kChunk) std::ofstream(in_ / "a.bin", std::ios::app) << "more";
  };
  EXPECT_THAT(message_of<RunError>([&] { seal_path(in_, sealed_, key_, {.on_progress = touch}); }),
              HasSubstr("a.bin\": changed while it was sealed"));
  EXPECT_FALSE(fs::exists(sealed_));
  EXPECT_TRUE(seal().has_begun_anew);
  unseal();
  EXPECT_EQ(tree(out_), tree(in_));
}

TEST_F(ArchiveFolder, LeftoversOfAnotherKeyAndForeignFilesAreKept) {
  seal_until(33 * kChunk);
  const Bytes before = read_file(partial_, kLimit);
  EXPECT_THAT(message_of<InputError>([&] { seal_path(in_, sealed_, key_from_seed_insecure(2)); }),
              HasSubstr("x.sealed.partial: sealed under key " + key_id(key_)));
  EXPECT_EQ(read_file(partial_, kLimit), before);
  write_text(partial_, "somebody's file");
  EXPECT_THAT(message_of<InputError>([&] { seal(); }), HasSubstr("x.sealed.partial: not a sealed archive"));
  EXPECT_EQ(read_text_file(partial_, 100), "somebody's file");
  write_text(partial_, "TEM");  // a beginning
  seal();
  unseal();
  EXPECT_EQ(tree(out_), tree(in_));
}

TEST_F(ArchiveFolder, SealingDoesNotContinueUnderAForgedHeader) {
  seal_until(33 * kChunk);
  Bytes bytes = read_file(partial_, kLimit);
  bytes[24] ^= std::byte{1};  // the archive's id: whoever could choose it could mix chunks of two archives
  write_bytes(partial_, bytes);
  EXPECT_TRUE(seal().has_begun_anew);
  const Bytes after = read_file(sealed_, kLimit);
  EXPECT_FALSE(std::equal(after.begin() + 24, after.begin() + 40, bytes.begin() + 24));
}

TEST_F(ArchiveFolder, SourcesThatAreNeitherFileNorFolderAreRefused) {
  fs::create_symlink("a.bin", in_ / "sub/link");
  EXPECT_THAT(message_of<InputError>([&] { seal(); }), HasSubstr("sub/link\": is a symbolic link, expected files and"));
  fs::remove(in_ / "sub/link");
  fs::create_directory_symlink(folder_.path(), in_ / "sub/link");
  EXPECT_THAT(message_of<InputError>([&] { seal(); }), HasSubstr("is a symbolic link"));
  fs::remove(in_ / "sub/link");
  ASSERT_EQ(::mkfifo((in_ / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(message_of<InputError>([&] { seal(); }), HasSubstr("pipe\": is neither file nor folder"));
  fs::remove(in_ / "pipe");
  write_text(in_ / "new\nline", "");
  EXPECT_THAT(message_of<InputError>([&] { seal(); }), HasSubstr("path \"new\\x0aline\" has a control character"));
  fs::remove(in_ / "new\nline");
  EXPECT_THAT(message_of<InputError>([&] { seal_path(folder_ / "absent", sealed_, key_); }),
              HasSubstr("cannot be read"));
  EXPECT_THAT(message_of<InputError>([&] { seal_path(in_, in_ / "sub/x.sealed", key_); }), HasSubstr("lies inside"));
  EXPECT_FALSE(fs::exists(partial_));
  seal();
  EXPECT_THAT(message_of<InputError>([&] { seal(); }), HasSubstr("x.sealed\": exists already, expected a new name"));
}

TEST_F(ArchiveFolder, ALinkThatTheUserNamedIsFollowed) {
  fs::create_directory_symlink(in_, folder_ / "data");
  seal_path(folder_ / "data", sealed_, key_);
  unseal();
  EXPECT_EQ(tree(out_), tree(in_));
}

TEST_F(ArchiveFolder, UnsealingContinuesAfterAnInterruptionAnywhere) {
  seal();
  for (const uint64_t bytes : {uint64_t{1}, 20 * kChunk + 17, 30 * kChunk, 42 * kChunk + 19}) {
    SCOPED_TRACE(bytes);
    unseal_until(bytes);
    const UnsealReport report = unseal();
    EXPECT_GE(report.kept_bytes, bytes);
    EXPECT_LT(report.kept_bytes, bytes + 17 * kChunk);
    EXPECT_EQ(tree(out_), tree(in_));
    EXPECT_FALSE(fs::exists(out_partial_));
    fs::remove_all(out_);
  }
}

TEST_F(ArchiveFolder, UnsealingRepairsAlteredPartialFiles) {
  seal();
  unseal_until(30 * kChunk);
  write_text(out_partial_ / "a.bin", std::string(30 * kChunk, 'x'));  // other bytes, and too many
  unseal();
  EXPECT_EQ(tree(out_), tree(in_));
}

TEST_F(ArchiveFolder, UnsealingRefusesFoldersWithForeignFiles) {
  seal();
  const auto refusal = [&] { return message_of<InputError>([&] { unseal(); }); };
  fs::create_directory(out_);
  EXPECT_THAT(refusal(), HasSubstr("out\": exists already, expected a new name"));
  fs::remove(out_);

  unseal_until(1);
  write_text(out_partial_ / "stranger", "");
  EXPECT_THAT(refusal(), HasSubstr("stranger\": is not in the archive as that"));
  fs::remove(out_partial_ / "stranger");
  fs::remove(out_partial_ / "a.bin");
  write_text(folder_ / "victim", "kept");
  fs::create_symlink(folder_ / "victim", out_partial_ / "a.bin");
  EXPECT_THAT(refusal(), HasSubstr("a.bin\": is not in the archive as that"));
  fs::remove(out_partial_ / "a.bin");
  fs::create_hard_link(folder_ / "victim", out_partial_ / "a.bin");
  EXPECT_THAT(refusal(), HasSubstr("a.bin\": not a regular file with one name"));
  fs::remove(out_partial_ / "a.bin");
  fs::permissions(out_partial_, fs::perms::group_write, fs::perm_options::add);
  EXPECT_THAT(refusal(), HasSubstr("not a folder of your own that only you can write to"));
  fs::remove_all(out_partial_);
  fs::create_directory_symlink(folder_.path(), out_partial_);
  EXPECT_THAT(refusal(), HasSubstr("not a folder of your own"));
  EXPECT_EQ(read_text_file(folder_ / "victim", 100), "kept");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(ArchiveFolder, AnAlteredChunkLeavesNothingUnderTheFinalName) {
  seal();
  Bytes bytes = read_file(sealed_, kLimit);
  bytes[kArchiveHeaderBytes + 30 * kSealedChunkBytes] ^= std::byte{1};
  write_bytes(sealed_, bytes);
  EXPECT_EQ(
      message_of<InputError>([&] { unseal(); }),
      fmt::format("{}: chunk 31 of 43 was altered or belongs elsewhere: it does not authenticate", sealed_.string()));
  EXPECT_FALSE(fs::exists(out_));
}

}  // namespace archive_folder_test
}  // namespace tempo::seal
