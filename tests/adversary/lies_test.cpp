// A lying worker per kind of lie: each is found, and named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "audit/audit.h"
#include "audit/detection.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "train/data/synthetic.h"

namespace tempo::audit {
namespace lies_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

/// What is certain but for rounding. One row scaled can miss the projection by chance, one element of a gradient that
/// stays on the worker can be within the rounding of later fetches: docs/integrity.md has their rates.
bool is_certain(const DetectionRow& row) {
  return row.setting.find("float32") != std::string::npos && row.lie.find("scaled") == std::string::npos &&
         row.lie.find("kept gradient") == std::string::npos && row.lie.find(" 1%") == std::string::npos;
}

TEST(Lies, EveryKindOfLieIsFoundAndHonestResultsPass) {
  const DetectionResults results = measure_detection({.trials = 4, .honest = 800});
  int certain = 0;
  for (const DetectionRow& row : results.lies) {
    if (!is_certain(row)) continue;
    SCOPED_TRACE(row.layer + ", " + row.setting + ", " + row.lie);
    EXPECT_EQ(row.trials, 4);
    EXPECT_EQ(row.detected, row.trials);
    ++certain;
  }
  EXPECT_EQ(certain, 2 * (6 + 4 + 4 + 4));
  for (const HonestRow& row : results.honest) {
    SCOPED_TRACE(row.layer + ", " + row.setting);
    EXPECT_GE(row.checks, 100);
    EXPECT_EQ(row.alarms, 0);
    EXPECT_LT(row.largest_ratio, 1);
  }
}

class TrainingWithALiar : public ::testing::TestWithParam<Lie> {};

TEST_P(TrainingWithALiar, TrainingStopsAtTheLieAndNamesTheWorkerAndTheResult) {
  VictimOptions options;
  options.batch_size = 8;
  options.tee_threads = 1;
  const train::DataSplits data = train::make_synthetic(64, 16, 1, 16);
  options.steps = 1;
  const State start = train_plain(options, data, true);
  Setting setting = default_setting();
  setting.integrity = "always";
  if (GetParam() == Lie::kDropUpdate || GetParam() == Lie::kAlterWeight) {  // lies about weights that stay
    setting.blinding.protection = "rotated";
    setting.blinding.reuse = Reuse::kFull;
    setting.blinding.weights = WeightPlacement::kResident;
  }
  const auto lie = [&](std::shared_ptr<contract::Worker> honest) -> std::shared_ptr<contract::Worker> {
    auto liar = std::make_shared<LyingWorker>(std::move(honest), 3);
    liar->arm(GetParam(), 0.5, 17);
    return liar;
  };
  EXPECT_THAT(
      message_of<IntegrityError>([&] { train_offloaded(options, start, data, setting, 12, SecretKey::random(), lie); }),
      AllOf(HasSubstr("inprocess:"), HasSubstr(" of layer"), HasSubstr("the step abandoned")));
}

INSTANTIATE_TEST_SUITE_P(Lies, TrainingWithALiar,
                         ::testing::Values(Lie::kElement, Lie::kSwap, Lie::kDropUpdate, Lie::kAlterWeight));

}  // namespace lies_test
}  // namespace tempo::audit
