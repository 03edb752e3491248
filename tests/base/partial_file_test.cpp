#include "base/partial_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>

#include "base/file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo {
namespace partial_file_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;
using testing::to_bytes;
using testing::write_text;

TEST(PartialFile, APartialFileSurvivesAndAppearsAtCommit) {
  const TempFolder folder;
  {
    PartialFile file(folder / "a");
    EXPECT_EQ(file.size(), 0U);
    file.write_at(0, to_bytes("one two"));
  }
  EXPECT_THAT(folder.names(), ElementsAre("a.partial"));
  PartialFile file(folder / "a");
  EXPECT_EQ(file.size(), 7U);
  std::vector<std::byte> word(10);
  EXPECT_EQ(file.read_at(4, word), 3U);
  file.truncate(4);
  file.write_at(4, to_bytes("three"));
  file.commit();
  EXPECT_THAT(folder.names(), ElementsAre("a"));
  EXPECT_EQ(read_text_file(folder / "a", 100), "one three");
}

TEST(PartialFile, TheOldFileIsReplacedOnlyAtCommitAndAPartialFileCanBeDiscarded) {
  const TempFolder folder;
  write_text(folder / "a", "old");
  {
    PartialFile file(folder / "a");
    file.write_at(0, to_bytes("new"));
    EXPECT_EQ(read_text_file(folder / "a", 100), "old");
    file.discard();
  }
  EXPECT_THAT(folder.names(), ElementsAre("a"));
  PartialFile file(folder / "a");
  file.write_at(0, to_bytes("new"));
  file.commit();
  EXPECT_EQ(read_text_file(folder / "a", 100), "new");
}

TEST(PartialFile, OnlyOneWriterAtATimeIsAllowed) {
  const TempFolder folder;
  std::optional<PartialFile> first(std::in_place, folder / "a");
  EXPECT_THAT(message_of<InputError>([&] { PartialFile(folder / "a"); }), HasSubstr("another process is writing it"));
  first.reset();
  PartialFile again(folder / "a");
}

TEST(PartialFile, LinksAndPipesInPlaceOfAPartialFileAreRefused) {
  const TempFolder folder;
  write_text(folder / "victim", "kept");
  ASSERT_EQ(::symlink((folder / "victim").c_str(), (folder / "link.partial").c_str()), 0);
  EXPECT_THAT(message_of<InputError>([&] { PartialFile(folder / "link"); }),
              HasSubstr("link.partial: cannot be opened"));
  ASSERT_EQ(::link((folder / "victim").c_str(), (folder / "hard.partial").c_str()), 0);
  EXPECT_THAT(message_of<InputError>([&] { PartialFile(folder / "hard"); }),
              HasSubstr("not a regular file of your own"));
  ASSERT_EQ(::mkfifo((folder / "pipe.partial").c_str(), 0600), 0);
  EXPECT_THAT(message_of<InputError>([&] { PartialFile(folder / "pipe"); }),
              HasSubstr("not a regular file of your own"));
  EXPECT_EQ(read_text_file(folder / "victim", 100), "kept");
}

TEST(PartialFile, OnlyARegularFileIsReplaced) {
  const TempFolder folder;
  write_text(folder / "victim", "kept");
  PartialFile file(folder / "a");
  ASSERT_EQ(::symlink((folder / "victim").c_str(), (folder / "a").c_str()), 0);
  EXPECT_THAT(message_of<InputError>([&] { file.commit(); }), HasSubstr("a: not a regular file"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "a"));
  EXPECT_EQ(read_text_file(folder / "victim", 100), "kept");
}

}  // namespace partial_file_test
}  // namespace tempo
