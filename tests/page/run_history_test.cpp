#include "page/run_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::page {
namespace run_history_test {

using nlohmann::json;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;

json parsed(const RunHistory& history) { return json::parse(history.to_json()); }

TEST(RunHistory, TakesStepsEvaluationsAndEvents) {
  RunHistory history;
  history.add_line(R"({"step":0,"event":"run_began","during":1,"workers":2,"worker":"shm://a, shm://b"})");
  history.add_line(
      R"({"step":1,"epoch":0,"loss":2.5,"seconds":0.5,"key_seconds":0.1,"workers":2,"something_new":[1]})");
  history.add_line(R"({"step":1,"event":"worker_lost","during":2,"worker":"shm://b","reason":"it ended"})");
  history.add_line(R"({"step":2,"epoch":1,"loss":null,"seconds":0.5})");
  history.add_line(R"({"step":2,"epoch":1,"test_accuracy":0.5,"test_loss":1.5})");
  const json found = parsed(history);
  EXPECT_EQ(found["epoch"], 1);
  EXPECT_EQ(found["steps"]["step"], json({1, 2}));
  EXPECT_EQ(found["steps"]["columns"]["loss"]["mean"], json({2.5, nullptr}));
  EXPECT_EQ(found["steps"]["columns"]["key_seconds"]["mean"], json({0.1, nullptr}));
  EXPECT_EQ(found["tests"]["columns"]["test_accuracy"]["mean"], json({0.5}));
  ASSERT_EQ(found["events"]["list"].size(), 2U);
  EXPECT_EQ(found["events"]["list"][1]["reason"], "it ended");
  EXPECT_EQ(history.last_step(), 2);
}

TEST(RunHistory, LinesOfOlderVersionsAreRead) {
  RunHistory history;
  history.add_line(
      R"({"step":1,"epoch":0,"loss":2.5,"learning_rate":0.1,"gradient_norm":1,"seconds":1,"tee_cpu_seconds":1,"samples_per_second":9})");
  const json columns = parsed(history)["steps"]["columns"];
  EXPECT_TRUE(columns.contains("samples_per_second"));
  EXPECT_FALSE(columns.contains("key_seconds"));
}

TEST(RunHistory, SaysWhatCameAndWhatWasExpected) {
  const auto says = [](std::string_view line) {
    RunHistory history;
    history.add_line(R"({"step":5,"loss":1})");
    const std::string message = message_of<InputError>([&] { history.add_line(line); });
    EXPECT_EQ(parsed(history)["steps"]["step"], json({5})) << "a refused line was taken";
    return message;
  };
  EXPECT_EQ(says(""), "got an empty line, expected a JSON object of a step, an evaluation or an event");
  EXPECT_EQ(says("{\"step\":6,"), "got \"{\"step\":6,\", expected a JSON object of a step, an evaluation or an event");
  EXPECT_THAT(says("[1]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(says("\xff\xfe"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(says(std::string("{\"step\":6}\0", 11)), HasSubstr("expected a JSON object"));
  EXPECT_THAT(says(std::string(1 << 20, '[')), HasSubstr("1048576 bytes, expected at most"));
  EXPECT_THAT(says(std::string(16 << 10, '[')), HasSubstr("expected a JSON object"));
  EXPECT_THAT(says(R"({"loss":1})"), HasSubstr("no \"step\""));
  EXPECT_THAT(says(R"({"step":-1,"loss":1})"), HasSubstr("\"step\": -1, expected"));
  EXPECT_THAT(says(R"({"step":6.5,"loss":1})"), HasSubstr("expected a \"step\""));
  EXPECT_THAT(says(R"({"step":18446744073709551615,"loss":1})"), HasSubstr("expected a \"step\""));
  EXPECT_THAT(says(R"({"step":6,"loss":1e999})"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(says(R"({"step":6,"loss":"1"})"), HasSubstr("\"loss\": \"1\", expected a number"));
  EXPECT_THAT(says(R"({"step":5,"loss":1})"), HasSubstr("step 5 after step 5, expected steps that rise"));
  EXPECT_THAT(says(R"({"step":6})"), HasSubstr("expected \"loss\", \"test_accuracy\" or \"event\""));
  EXPECT_THAT(says(R"({"step":6,"event":[]})"), HasSubstr("the event's name"));
}

TEST(RunHistory, EventsAreBoundedAndCheckpointsGoFirst) {
  RunHistory history;
  history.add_line(R"({"step":0,"event":"worker_lost","worker":")" + std::string(5000, 'x') + R"(","a":[1,2]})");
  for (int i = 1; i < 50'000; ++i)
    history.add_line("{\"step\":" + std::to_string(i) + ",\"event\":\"checkpoint_saved\"}");
  const json events = parsed(history)["events"];
  EXPECT_LT(events["list"].size(), 2 * RunHistory::kMostEvents);
  EXPECT_EQ(events["list"].size() + events["dropped"].get<size_t>(), 50'000U);
  EXPECT_EQ(events["list"][0]["event"], "worker_lost");
  EXPECT_LT(events["list"][0].dump().size(), 400U);
  EXPECT_FALSE(events["list"][0].contains("a"));
}

TEST(RunHistory, AReaderCatchesUpAndStartsAnewAfterAStepBack) {
  RunHistory history;
  for (int i = 1; i <= 5; ++i) history.add_line("{\"step\":" + std::to_string(i) + ",\"loss\":1}");
  const json first = parsed(history);
  RunHistory::Cursor at{.generation = first["generation"], .steps = 4, .tests = 0, .events = 0};
  history.add_line(R"({"step":6,"loss":1})");
  EXPECT_EQ(json::parse(history.to_json(at))["steps"]["step"], json({5, 6}));
  history.went_back(3);
  EXPECT_EQ(json::parse(history.to_json(at))["steps"]["step"], json({1, 2, 3}));
  history.add_line(R"({"step":4,"loss":7})");
  EXPECT_EQ(parsed(history)["steps"]["columns"]["loss"]["mean"].back(), 7);
}

TEST(ReadMetrics, ATornLastLineIsLeftOutAndABrokenOneIsNamed) {
  const TempFolder folder;
  const auto file = folder / "metrics.jsonl";
  bool is_torn = false;
  testing::write_text(file, "{\"step\":1,\"loss\":1}\n{\"step\":2,\"lo");
  EXPECT_EQ(read_metrics(file, is_torn).last_step(), 1);
  EXPECT_TRUE(is_torn);
  testing::write_text(file, "{\"step\":1,\"loss\":1}\n{\"step\":2,\"lo\n{\"step\":3,\"loss\":1}\n");
  EXPECT_THAT(message_of<InputError>([&] { read_metrics(file, is_torn); }),
              HasSubstr("metrics.jsonl: line 2: got \"{\"step\":2,\"lo\", expected a JSON object"));
  testing::write_text(file, std::string(8 << 20, 'x'));
  EXPECT_THAT(message_of<InputError>([&] { read_metrics(file, is_torn); }), HasSubstr("line 1: got"));
  testing::write_text(file, "");
  EXPECT_EQ(read_metrics(file, is_torn).last_step(), 0);
  EXPECT_FALSE(is_torn);
}

TEST(ReadMetrics, RefusesWhatIsNoFile) {
  const TempFolder folder;
  bool is_torn = false;
  EXPECT_THAT(message_of<InputError>([&] { read_metrics(folder / "none", is_torn); }), HasSubstr("is not there"));
  EXPECT_THAT(message_of<InputError>([&] { read_metrics(folder.path(), is_torn); }), HasSubstr("is no file"));
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(message_of<InputError>([&] { read_metrics(folder / "pipe", is_torn); }), HasSubstr("is no file"));
}

}  // namespace run_history_test
}  // namespace tempo::page
