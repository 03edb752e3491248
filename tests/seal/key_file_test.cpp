#include "seal/key_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <optional>

#include "base/csprng.h"
#include "base/file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace key_file_test {

using ::tempo::testing::message_of;
using ::tempo::testing::TempFolder;
using ::tempo::testing::write_text;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

const std::string kDigits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

std::filesystem::path key_file_with(const TempFolder& folder, const std::string& text, mode_t mode = 0600) {
  const auto path = folder / "given.key";
  write_text(path, text);
  ::chmod(path.c_str(), mode);
  return path;
}

TEST(KeyFile, ACreatedKeyFileIsPrivateAndOneLine) {
  const TempFolder folder;
  const auto path = folder / "new" / "folders" / "a.key";
  create_key(path);

  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  ASSERT_EQ(::stat((folder / "new").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0700U);
  EXPECT_THAT(read_text_file(path, 100), MatchesRegex("tempo-key-v1 [0-9a-f]{64}\n"));
  EXPECT_TRUE(load_key(path).equals(load_key(path)));
}

TEST(KeyFile, TwoCreatedKeysDiffer) {
  const TempFolder folder;
  create_key(folder / "a");
  create_key(folder / "b");
  EXPECT_FALSE(load_key(folder / "a").equals(load_key(folder / "b")));
}

TEST(KeyFile, KnownDigitsAreReadWithAndWithoutNewline) {
  const TempFolder folder;
  for (const char* end : {"", "\n"}) {
    const SecretKey key = load_key(key_file_with(folder, "tempo-key-v1 " + kDigits + end));
    for (size_t i = 0; i < SecretKey::kBytes; ++i) EXPECT_EQ(std::to_integer<size_t>(key.bytes()[i]), i);
  }
}

TEST(KeyFile, AnExistingFileIsNeverOverwritten) {
  const TempFolder folder;
  const auto path = key_file_with(folder, "precious");
  EXPECT_THAT(message_of<InputError>([&] { create_key(path); }), HasSubstr("a key is never overwritten"));
  EXPECT_EQ(read_text_file(path, 100), "precious");
}

TEST(KeyFile, LoadOrCreateReportsWhetherItCreatedTheKey) {
  const TempFolder folder;
  bool created = false;
  const SecretKey first = load_or_create_key(folder / "k", &created);
  EXPECT_TRUE(created);
  const SecretKey second = load_or_create_key(folder / "k", &created);
  EXPECT_FALSE(created);
  EXPECT_TRUE(first.equals(second));
  EXPECT_TRUE(load_or_create_key(folder / "k", nullptr).equals(first));
}

TEST(KeyFile, FilesOpenToOthersAreRefused) {
  const TempFolder folder;
  for (const mode_t mode : {0640U, 0604U, 0620U, 0601U}) {
    const auto path = key_file_with(folder, "tempo-key-v1 " + kDigits + "\n", mode);
    EXPECT_THAT(message_of<InputError>([&] { load_key(path); }), HasSubstr("open to group or others; expected 0600"));
  }
}

TEST(KeyFile, FilesOfAnotherFormatAreRefused) {
  const TempFolder folder;
  const std::string good = "tempo-key-v1 " + kDigits + "\n";
  std::string bad_digit = good;
  bad_digit[20] = 'g';
  for (const std::string& text :
       {std::string(), std::string("tempo-key-v1 "), "tempo-key-v2 " + kDigits + "\n", bad_digit, good + "\n",
        good + "more", good.substr(0, 76), "tempo-key-v1 " + kDigits + "0"}) {
    SCOPED_TRACE(text);
    const auto path = key_file_with(folder, text);
    const std::string message = message_of<InputError>([&] { load_key(path); });
    EXPECT_THAT(message, HasSubstr("not a key file; expected one line, \"tempo-key-v1 \" and 64 hex digits"));
    EXPECT_EQ(message.find(kDigits.substr(0, 16)), std::string::npos) << "the message shows the key";
  }
}

TEST(KeyFile, MissingFilesAndFoldersAreRefused) {
  const TempFolder folder;
  EXPECT_THAT(message_of<InputError>([&] { load_key(folder / "none"); }), HasSubstr("cannot be opened: No such file"));
  EXPECT_THAT(message_of<InputError>([&] { load_key(folder.path()); }), HasSubstr("expected a key file"));
}

/// Sets or unsets an environment variable for one test.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  ~Environment() { set(old_ ? old_->c_str() : nullptr); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void set(const char* value) const { value == nullptr ? ::unsetenv(name_) : ::setenv(name_, value, 1); }
  const char* name_;
  std::optional<std::string> old_;
};

TEST(KeyFile, DefaultPathFollowsXdg) {
  const Environment home("HOME", "/home/user");
  {
    const Environment config("XDG_CONFIG_HOME", "/etc/xdg");
    EXPECT_EQ(default_key_path(), "/etc/xdg/tempo/checkpoint.key");
  }
  for (const char* value : {static_cast<const char*>(nullptr), "", "relative"}) {
    const Environment config("XDG_CONFIG_HOME", value);
    EXPECT_EQ(default_key_path(), "/home/user/.config/tempo/checkpoint.key");
    const Environment no_home("HOME", nullptr);
    EXPECT_THAT(message_of<InputError>([] { default_key_path(); }), HasSubstr("neither XDG_CONFIG_HOME nor HOME"));
  }
}

TEST(KeyFile, TheIdIdentifiesAKeyWithoutRevealingIt) {
  const SecretKey key = key_from_seed_insecure(1);
  EXPECT_THAT(key_id(key), MatchesRegex("[0-9a-f]{16}"));
  EXPECT_EQ(key_id(key), key_id(key.duplicate()));
  EXPECT_NE(key_id(key), key_id(key_from_seed_insecure(2)));
  std::string key_hex(65, '\0');
  sodium_bin2hex(key_hex.data(), key_hex.size(), key.data(), SecretKey::kBytes);
  EXPECT_EQ(key_hex.find(key_id(key)), std::string::npos);
}

}  // namespace key_file_test
}  // namespace tempo::seal
