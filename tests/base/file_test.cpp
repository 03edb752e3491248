#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo {
namespace {

using testing::message_of;
using testing::TempFolder;
using testing::write_text;

TEST(AtomicFile, AppearsWholeAtCommit) {
  const TempFolder folder;
  const auto path = folder.path() / "a";
  {
    AtomicFile file(path, 0600);
    file.write("first");
    EXPECT_FALSE(std::filesystem::exists(path));
    file.commit();
  }
  EXPECT_EQ(read_text_file(path, 100), "first");
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(AtomicFile, LeavesTheOldFileWithoutCommit) {
  const TempFolder folder;
  const auto path = folder.path() / "a";
  write_text(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
  }
  EXPECT_EQ(read_text_file(path, 100), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(ReadFile, SaysWhatIsWrong) {
  const TempFolder folder;
  write_text(folder.path() / "a", "12345");
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder.path() / "a", 4); }),
              ::testing::HasSubstr("5 bytes, expected at most 4"));
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder.path() / "b", 4); }),
              ::testing::HasSubstr("cannot be read"));
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder.path(), 4); }), ::testing::HasSubstr("is a folder"));
}

}  // namespace
}  // namespace tempo
