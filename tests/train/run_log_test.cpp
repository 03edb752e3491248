#include "train/run_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"
#include "support/temp_folder.h"
#include "train/run_view.h"

namespace tempo::train {
namespace run_log_test {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempFolder;

std::vector<json> lines_of(const TempFolder& folder) {
  std::vector<json> lines;
  std::istringstream text(read_text_file(folder / "metrics.jsonl", 1 << 24));
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  return lines;
}

std::vector<std::string> told(const std::vector<json>& lines) {
  std::vector<std::string> all;
  for (const json& line : lines)
    all.push_back(line["step"].dump() + line.value("event", line.contains("loss") ? " loss" : " test"));
  return all;
}

void write_steps(RunLog& log, int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; ++step) log.step({.step = step, .loss = 1});
}

TEST(RunLog, StepsHaveWhatTheyCost) {
  const TempFolder folder;
  {
    RunLog log(folder.path(), 0);
    StepMetrics metrics{.step = 1, .loss = 1, .seconds = 2};
    metrics.offload.key_seconds = 0.5;
    metrics.offload.bytes_to_workers = 1000;
    metrics.integrity_checks = 7;
    metrics.workers = 2;
    metrics.resident_bytes = 4096;
    log.step(metrics);
  }
  const json line = lines_of(folder).at(0);
  EXPECT_EQ(line["key_seconds"], 0.5);
  EXPECT_EQ(line["bytes_to_workers"], 1000);
  EXPECT_EQ(line["integrity_checks"], 7);
  EXPECT_EQ(line["workers"], 2);
  EXPECT_EQ(line["resident_bytes"], 4096);
}

TEST(RunLog, GoingBackDropsStepsAndKeepsWhatHappened) {
  const TempFolder folder;
  {
    RunLog log(folder.path(), 0);
    write_steps(log, 1, 5);
    log.happened(3, {.event = "checkpoint_saved", .during = 3});
    log.happened(5, {.event = "worker_lost", .during = 6, .worker = "shm://a", .reason = "it ended"});
    log.evaluation({.step = 5});
    log.went_back(3);
    write_steps(log, 4, 4);
  }
  const auto lines = lines_of(folder);
  EXPECT_EQ(told(lines),
            (std::vector<std::string>{"1 loss", "2 loss", "3 loss", "3checkpoint_saved", "3worker_lost", "4 loss"}));
  EXPECT_EQ(lines[4]["during"], 6);
  EXPECT_EQ(lines[4]["reason"], "it ended");
  const RunLog again(folder.path(), 2);
  EXPECT_EQ(told(lines_of(folder)),
            (std::vector<std::string>{"1 loss", "2 loss", "2checkpoint_saved", "2worker_lost"}));
}

/// Cuts its lines itself, as the job service does.
class Keeper final : public RunKeeper {
 public:
  std::optional<Place> resumed() override { return {}; }
  Place next(int64_t) override { return {}; }
  void saved(int64_t, bool) override {}
  void line(int64_t step, const std::string& text) override { lines.emplace_back(step, text); }
  void went_back(int64_t step) override {
    std::erase_if(lines, [&](const auto& line) { return line.first > step; });
  }
  std::vector<std::pair<int64_t, std::string>> lines;
};

TEST(RunLog, AKeeperToldToGoBackHearsOfEventsAgain) {
  Keeper keeper;
  RunLog log(keeper);
  log.happened(0, {.event = "run_began", .during = 1});
  log.saved();
  write_steps(log, 1, 2);
  log.happened(2, {.event = "worker_lost", .during = 3});
  log.went_back(0);
  ASSERT_EQ(keeper.lines.size(), 2U);
  EXPECT_THAT(keeper.lines[0].second, HasSubstr("run_began"));
  EXPECT_THAT(keeper.lines[1].second, HasSubstr("{\"step\":0,\"event\":\"worker_lost\",\"during\":3}"));
}

TEST(RunLog, EventsThatAPeerCanRepeatAreBounded) {
  Keeper keeper;
  RunLog log(keeper);
  for (int i = 0; i < 100; ++i) log.happened(1, {.event = "part_reissued", .during = 2});
  EXPECT_EQ(keeper.lines.size(), 4U);
  for (int i = 0; i < 20'000; ++i)
    log.happened(1, {.event = "worker_lost", .during = 2, .reason = std::string(9999, '\xff')});
  EXPECT_EQ(keeper.lines.size(), 10'001U);
  EXPECT_THAT(keeper.lines.back().second, HasSubstr("events_not_written"));
  for (const auto& [step, text] : keeper.lines) {
    ASSERT_TRUE(json::accept(text));
    ASSERT_LT(text.size(), 1024U);
  }
}

TEST(RunView, SaysWhatSettingsHideAndNoSeed) {
  RunConfig config;
  config.seed = 4242;
  config.key = "/home/me/checkpoint.key";
  const page::RunView view = view_of(config);
  for (const auto& [name, value] : view.settings) {
    EXPECT_NE(name, "key");
    EXPECT_NE(value, "4242");
  }
  const auto text_of = [](const RunConfig& of) {
    std::string all;
    for (const auto& statement : what_workers_learn(of)) all += statement.text + "\n";
    return all;
  };
  resolve(config);
  EXPECT_THAT(text_of(config), HasSubstr("follow from the seed"));
  EXPECT_THAT(text_of(config), Not(HasSubstr("can be linked")));
  config.blinding.conv_tile = 4;
  EXPECT_THAT(text_of(config), HasSubstr("All taps of a kernel have one key"));
  config.blinding.reuse = Reuse::kFull;
  EXPECT_THAT(text_of(config), HasSubstr("Keys are the same in both directions"));
  config.blinding.protection = "rotated";
  EXPECT_THAT(text_of(config), HasSubstr("A training is not protected against such a worker"));
  config.blinding.protection = "permuted";
  EXPECT_THAT(text_of(config), HasSubstr("protection=permuted protects nobody"));
  config.integrity = "off";
  EXPECT_THAT(text_of(config), HasSubstr("back door"));
  config.workers = "local";
  EXPECT_THAT(text_of(config), HasSubstr("Nothing is sent to a worker"));
}

}  // namespace run_log_test
}  // namespace tempo::train
