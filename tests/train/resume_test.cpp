// What a run goes on with: epochs under another batch size, weights of other programs, and what it says where it
// cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"
#include "seal/key_file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "tempo/run.h"
#include "train/checkpoint.h"
#include "train/machine_rates.h"
#include "train/run_log.h"

namespace tempo::train {
namespace resume_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;

class Resume : public ::testing::Test {
 protected:
  void SetUp() override { seal::create_key(folder_ / "key"); }

  RunConfig config(const std::string& name, const std::string& model = "lenet") const {
    RunConfig c;
    c.model = model;
    c.out = (folder_ / name).string();
    c.key = (folder_ / "key").string();
    c.batch_size = 16;
    c.train_size = 64;
    c.test_size = 16;
    c.seed = 5;
    c.lr = 0.001;
    c.tee_threads = 1;
    c.workers = "local";
    return c;
  }
  static RunSummary run(const RunConfig& c) { return run_training(c, {.quiet = true}); }
  static RunSummary stop_after_a_step(const RunConfig& c) {
    const std::atomic<bool> stop{true};
    return run_training(c, {.stop = &stop, .quiet = true});
  }
  /// The epoch of every step in metrics.jsonl.
  std::vector<int64_t> epochs(const std::string& name) const {
    std::vector<int64_t> found;
    std::istringstream lines(read_text_file(folder_ / name / "metrics.jsonl", 1 << 20));
    for (std::string line; std::getline(lines, line);)
      if (const auto json = nlohmann::json::parse(line); json.contains("loss")) found.push_back(json.at("epoch"));
    return found;
  }

  TempFolder folder_;
};

TEST_F(Resume, EpochsAreCountedAsSeenAfterAChangeOfBatchSize) {
  RunConfig c = config("run");
  c.epochs = 2;
  EXPECT_EQ(run(c).epochs, 2);
  c = resumed_config(c.out, c.key);
  c.epochs = 3;
  c.batch_size = 64;  // by steps, more than three epochs of this size are done
  EXPECT_EQ(run(c).steps, 9);
  c.epochs = 4;
  c.resume = c.out;
  c.batch_size = 32;
  EXPECT_EQ(run(c).epochs, 4);
  EXPECT_THAT(epochs("run"), ElementsAre(0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3));
  EXPECT_THAT(message_of<InputError>([&] { run(c); }), HasSubstr("has done 4 epochs in 11 steps"));
}

TEST_F(Resume, AResumedEpochContinuesAtTheNextImage) {
  RunConfig c = config("run");
  EXPECT_EQ(stop_after_a_step(c).epochs, 1);
  c = resumed_config(c.out, c.key);
  c.batch_size = 40;
  EXPECT_EQ(run(c).steps, 3) << "16, 40 and 8 images";
  EXPECT_THAT(epochs("run"), ElementsAre(0, 0, 0));
}

TEST_F(Resume, EpochsOfACheckpointWithoutAnEpochAreCountedByItsBatchSize) {
  RunConfig c = config("run");
  c.epochs = 2;
  run(c);
  const SecretKey key = seal::load_key(folder_ / "key");
  Checkpoint checkpoint = load_checkpoint(checkpoint_path(c.out), key);
  EXPECT_EQ(checkpoint.numbers.erase(kEpoch) + checkpoint.numbers.erase(kPosition), 2U);
  save_checkpoint(checkpoint, checkpoint_path(c.out), key);
  c = resumed_config(c.out, c.key);
  c.epochs = 3;
  c.batch_size = 64;
  EXPECT_EQ(run(c).steps, 9);
}

/// Placement of a run must not change because the machine was measured anew, or because somebody changed the file.
TEST_F(Resume, ARunKeepsTheRatesThatItWasPlacedBy) {
  const auto cache = folder_ / "cache";
  ::setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  RunConfig c = config("run");
  c.workers = "inprocess:cpu";
  stop_after_a_step(c);
  const std::string placed_by = resumed_config(c.out, c.key).rates;
  EXPECT_NO_THROW(parse_figures(placed_by));
  const auto key = RatesKey::of_this_machine();
  EXPECT_EQ(to_figures(read_rates(default_rates_path(), key).value()), placed_by);

  ASSERT_TRUE(keep_rates(default_rates_path(), key, nn::TeeRates{}));
  c = resumed_config(c.out, c.key);
  stop_after_a_step(c);
  EXPECT_EQ(resumed_config(c.out, c.key).rates, placed_by);
  c.rates = kMeasuredRates;
  run(c);
  EXPECT_EQ(resumed_config(c.out, c.key).rates, placed_by);
  ::unsetenv("XDG_CACHE_HOME");
}

TEST_F(Resume, AnExplicitPlacementMeasuresAndReadsNothing) {
  const auto cache = folder_ / "cache";
  ::setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  RunConfig c = config("run");
  run(c);
  c = config("all");
  c.workers = "inprocess:cpu";
  c.offload = OffloadChoice::kAll;
  run(c);
  EXPECT_FALSE(std::filesystem::exists(cache));
  ::unsetenv("XDG_CACHE_HOME");
}

TEST_F(Resume, ARunFromBeforeRatesWereMeasuredGoesOnByThoseBuiltIn) {
  RunConfig c = config("run");
  run(c);
  const SecretKey key = seal::load_key(folder_ / "key");
  Checkpoint checkpoint = load_checkpoint(checkpoint_path(c.out), key);
  const size_t at = checkpoint.config.find("rates = ");
  ASSERT_NE(at, std::string::npos);
  checkpoint.config.erase(at, checkpoint.config.find('\n', at) + 1 - at);
  save_checkpoint(checkpoint, checkpoint_path(c.out), key);
  EXPECT_EQ(resumed_config(c.out, c.key).rates, kBuiltInRates);
}

TEST_F(Resume, AStoppedRunReportsThatAccuracyWasNotMeasured) {
  const RunSummary summary = stop_after_a_step(config("run"));
  EXPECT_FALSE(summary.test_accuracy.has_value());
  EXPECT_THAT(to_text(summary), HasSubstr("test accuracy not measured"));
  EXPECT_THAT(read_text_file(folder_ / "run/summary.json", 1 << 20), HasSubstr("\"test_accuracy\": null"));
}

TEST_F(Resume, ARunWithoutACheckpointIsNotToldToResume) {
  RunConfig c = config("run");
  c.lr = 1000;
  c.train_size = 640;
  c.epochs = 3;
  EXPECT_THAT(message_of<RunError>([&] { run(c); }), HasSubstr("no checkpoint yet, so start anew with another --out"));
  EXPECT_THAT(message_of<InputError>([&] { run(c); }), HasSubstr("cannot be resumed"));
  EXPECT_THAT(message_of<InputError>([&] { resumed_config(c.out, c.key); }), HasSubstr("nothing to go on from"));
  c = config("good");
  run(c);
  EXPECT_THAT(message_of<InputError>([&] { run(c); }), HasSubstr("or --resume"));
}

TEST_F(Resume, WeightsWrittenByOtherProgramsAreAccepted) {
  RunConfig c = config("first", "resnet20");
  c.steps = 1;
  run(c);
  export_run(c.out, folder_ / "w.safetensors", c.key);
  const auto weights = read_plain_safetensors(folder_ / "w.safetensors");
  const auto start_from = [&](auto change) {
    auto changed = weights;
    change(changed);
    write_plain_safetensors(changed, {}, folder_ / "init.safetensors");
    RunConfig next = c;
    next.init = (folder_ / "init.safetensors").string();
    next.out = (folder_ / "next").string();
    std::filesystem::remove_all(next.out);
    run(next);
  };
  start_from([](auto& all) { std::erase_if(all, [](const auto& item) { return item.first.ends_with("tracked"); }); });
  for (const auto type : {torch::kHalf, torch::kBFloat16})
    start_from([&](auto& all) {
      for (auto& item : all)
        if (item.second.is_floating_point()) item.second = item.second.to(type);
    });
  EXPECT_THAT(message_of<InputError>([&] { start_from([](auto& all) { all.erase("bn1.weight"); }); }),
              HasSubstr("has no tensor \"bn1.weight\""));
  EXPECT_THAT(message_of<InputError>(
                  [&] { start_from([](auto& all) { all.at("bn1.weight") = all.at("bn1.weight").to(torch::kLong); }); }),
              HasSubstr("tensor bn1.weight is Long, expected floating-point numbers"));
}

TEST_F(Resume, TheRunLogIsKeptUpToTheFirstLineThatIsNotText) {
  testing::write_text(folder_ / "metrics.jsonl", std::string("{\"step\":1}\n{\"step\":1}\0junk\n{\"step\":1}\n", 38));
  const RunLog log(folder_.path(), 1);
  EXPECT_EQ(read_text_file(folder_ / "metrics.jsonl", 1 << 20), "{\"step\":1}\n");
}

}  // namespace resume_test
}  // namespace tempo::train
