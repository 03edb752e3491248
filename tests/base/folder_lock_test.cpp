#include "base/folder_lock.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo {
namespace folder_lock_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using testing::TempFolder;
using testing::write_text;

TEST(FolderLock, ASecondLockIsRefusedAndNamesTheHolder) {
  const TempFolder folder;
  std::optional<FolderLock> first(std::in_place, folder.path());
  EXPECT_THAT(message_of<InputError>([&] { FolderLock(folder.path()); }),
              AllOf(HasSubstr(folder.path().string() + ": in use by"),
                    HasSubstr("process " + std::to_string(::getpid())), HasSubstr(" on "), HasSubstr(" since 20")));
  first.reset();
  EXPECT_THAT(folder.names(), IsEmpty());
  const FolderLock again(folder.path());
}

TEST(FolderLock, ALockEndsWithAKilledProcess) {
  const TempFolder folder;
  int locked[2];
  ASSERT_EQ(::pipe(locked), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const FolderLock lock(folder.path());
    if (::write(locked[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(locked[0], &byte, 1), 1);
  EXPECT_THAT(message_of<InputError>([&] { FolderLock(folder.path()); }), HasSubstr(std::to_string(child)));
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_THAT(folder.names(), ElementsAre("lock"));
  const FolderLock lock(folder.path());
  ::close(locked[0]);
  ::close(locked[1]);
}

TEST(FolderLock, TheHolderNamedInTheFileIsQuotedAsUntrusted) {
  const TempFolder folder;
  const FolderLock lock(folder.path());
  write_text(folder / "lock", "a\nb\x1b[2J");
  EXPECT_THAT(message_of<InputError>([&] { FolderLock(folder.path()); }), HasSubstr("\"a\\x0ab\\x1b[2J\""));
}

TEST(FolderLock, FoldersWithoutAUsableLockFileAreRefused) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "lock").c_str(), 0600), 0);
  EXPECT_THAT(message_of<InputError>([&] { FolderLock(folder.path()); }), HasSubstr("lock: not a regular file"));
  EXPECT_THAT(message_of<InputError>([&] { FolderLock(folder / "none"); }),
              HasSubstr("cannot be locked: No such file"));
  write_text(folder / "file", "");
  EXPECT_THAT(message_of<InputError>([&] { FolderLock(folder / "file"); }), HasSubstr("Not a directory"));
  std::filesystem::remove(folder / "lock");
  std::filesystem::create_symlink("elsewhere", folder / "lock");
  EXPECT_THAT(message_of<InputError>([&] { FolderLock(folder.path()); }), HasSubstr("cannot be locked"));
  EXPECT_FALSE(std::filesystem::exists(folder / "elsewhere"));
}

}  // namespace folder_lock_test
}  // namespace tempo
