#include "base/temporary_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

namespace tempo {
namespace temporary_folder_test {

TEST(TemporaryFolder, AFolderIsPrivateAndIsRemovedWithItsContents) {
  std::filesystem::path path;
  {
    const TemporaryFolder folder, other;
    path = folder.path();
    EXPECT_NE(path, other.path());
    struct stat status = {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0700U);
    std::filesystem::create_directory(path / "inner");
    std::ofstream(path / "inner" / "file") << "something";
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace temporary_folder_test
}  // namespace tempo
