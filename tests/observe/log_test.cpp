#include "observe/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::observe {
namespace log_test {

using namespace std::string_literals;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using testing::message_of;
using testing::TempFolder;

static_assert(!std::is_constructible_v<Field, const char*, const float*>, "an address says nothing to a reader");
static_assert(!std::is_constructible_v<Field, const char*, std::nullptr_t>);

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST(Log, ALineIsAnObjectWithTimeLevelEventAndFields) {
  const TempFolder folder;
  Log log((folder / "log").string());
  log.warning("worker_lost", {{"worker", "shm://a"},
                              {"step", uint64_t{18446744073709551615U}},
                              {"change", -3},
                              {"seconds", 0.5},
                              {"is_retried", true}});
  log.info("stopped", {});
  log.error("failed", {});
  const auto lines = lines_of(folder / "log");
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_THAT(lines[0],
              MatchesRegex("\\{\"time\":\"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z\","
                           "\"level\":\"warning\",\"event\":\"worker_lost\",\"worker\":\"shm://a\","
                           "\"step\":18446744073709551615,\"change\":-3,\"seconds\":0.5,\"is_retried\":true\\}"));
  EXPECT_EQ(json::parse(lines[1]).at("level"), "info");
  EXPECT_EQ(json::parse(lines[2]).at("level"), "error");
}

TEST(Log, HostileTextStaysOneLineOfPlainAscii) {
  const TempFolder folder;
  Log log((folder / "log").string());
  const std::string text = "\"},\n{\"level\":\"info\"\x1b[2J\0\x7f\xc3\xa4\xff\xe2\x80\xae"s;
  log.info("event", {{"text", text}});
  const auto lines = lines_of(folder / "log");
  ASSERT_EQ(lines.size(), 1U);
  for (const char c : lines[0]) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << lines[0];
  const std::string read = json::parse(lines[0]).at("text");
  EXPECT_THAT(read, HasSubstr("{\"level\":\"info\"\x1b[2J"));
  EXPECT_THAT(read, HasSubstr("\xc3\xa4\xef\xbf\xbd")) << "what is UTF-8 stays, what is not is replaced";
}

TEST(Log, LongTextIsCutAndALineHasABoundedLength) {
  const TempFolder folder;
  Log log((folder / "log").string());
  log.info("cut", {{"ascii", std::string(5000, 'x')}, {"umlauts", std::string("x").append(5000, '\xc3')}});
  std::string umlauts = "x";
  for (int i = 0; i < 200; ++i) umlauts += "\xc3\xa4";
  log.info("cut", {{"umlauts", umlauts}});
  const std::string escaped(5000, '\0');
  log.info("long", {{"a", escaped}, {"b", escaped}, {"c", escaped}});
  const auto lines = lines_of(folder / "log");
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(json::parse(lines[0]).at("ascii"), std::string(kMaxTextBytes, 'x'));
  EXPECT_EQ(json::parse(lines[1]).at("umlauts"), umlauts.substr(0, kMaxTextBytes - 1)) << "whole characters";
  EXPECT_EQ(json::parse(lines[2]).at("fields_left_out"), 3);
  for (const std::string& line : lines) EXPECT_LT(line.size(), kMaxLineBytes);
}

TEST(Log, FieldsCannotReplaceTheHeadAndNumbersThatAreNotFiniteAreNull) {
  const TempFolder folder;
  Log log((folder / "log").string());
  log.info("event", {{"level", "forged"}, {"rate", std::nan("")}, {"limit", std::numeric_limits<double>::infinity()}});
  const json line = json::parse(lines_of(folder / "log").at(0));
  EXPECT_EQ(line.at("level"), "info");
  EXPECT_TRUE(line.at("rate").is_null());
  EXPECT_TRUE(line.at("limit").is_null());
}

TEST(Log, ConcurrentWritersNeverInterleave) {
  constexpr int kThreads = 4, kEach = 500;
  const TempFolder folder;
  const std::string path = (folder / "log").string();
  Log shared(path);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      Log own(path);  // as another process would have it
      for (int k = 0; k < kEach; ++k)
        (k % 2 == 0 ? shared : own).info("line", {{"id", i * kEach + k}, {"text", std::string(100, 'a')}});
    });
  for (std::thread& thread : threads) thread.join();
  std::set<int> ids;
  for (const std::string& line : lines_of(path)) ids.insert(json::parse(line).at("id").get<int>());
  EXPECT_EQ(ids.size(), size_t{kThreads} * kEach);
}

TEST(Log, ALogFileIsAppendedToAndOthersCannotReadIt) {
  const TempFolder folder;
  const std::string path = (folder / "log").string();
  Log(path).info("first", {});
  Log(path).info("second", {});
  EXPECT_EQ(lines_of(path).size(), 2U);
  struct stat file = {};
  ASSERT_EQ(stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07U, 0U);
}

TEST(Log, ALogIsSilentByDefaultAndReportsAFileItCannotOpen) {
  Log silent;
  EXPECT_FALSE(silent.is_enabled());
  silent.info("nothing", {{"id", 1}});
  const TempFolder folder;
  EXPECT_THAT(message_of<InputError>([&] { Log((folder / "no/such").string()); }),
              HasSubstr("No such file or directory"));
}

TEST(Log, ALineThatCannotBeWrittenIsDroppedWithoutAnError) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full";
  Log log("/dev/full");
  log.info("lost", {{"id", 1}});
}

}  // namespace log_test
}  // namespace tempo::observe
