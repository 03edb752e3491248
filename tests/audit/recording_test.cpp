// What the recorder says of a real run is what the run did: the view is the truth under its keys.
#include <gtest/gtest.h>

#include <filesystem>

#include "audit/algebra/matching.h"
#include "audit/audit.h"
#include "audit/view_files.h"
#include "base/file.h"
#include "support/temp_folder.h"
#include "train/data/synthetic.h"
#include "train/formats/safetensors.h"

namespace tempo::audit {
namespace recording_test {

VictimOptions tiny() {
  VictimOptions options;
  options.batch_size = 8;
  options.steps = 2;
  options.warmup_steps = 0;
  options.tee_threads = 1;
  return options;
}

double relative_difference(const Operand& a, const Operand& b) {
  if (a.empty() || !a.same_shape(b)) return 1;
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.values.size(); ++i) {
    difference += std::pow(static_cast<double>(a.values[i]) - b.values[i], 2);
    size += std::pow(static_cast<double>(b.values[i]), 2);
  }
  return std::sqrt(difference / std::max(size, 1e-30));
}

class Recording : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    data_ = new train::DataSplits(train::make_synthetic(24, 8, 1, 16));
    state_ = new State(train_plain(tiny(), *data_, true));
  }
  static void TearDownTestSuite() {
    delete data_;
    delete state_;
  }
  static RecordedRun record(const Setting& setting) {
    return record_run(tiny(), *state_, *data_, setting, {.full_steps = 2, .steps = 4, .later_values = 6000},
                      SecretKey::random());
  }
  static train::DataSplits* data_;
  static State* state_;
};
train::DataSplits* Recording::data_ = nullptr;
State* Recording::state_ = nullptr;

TEST_F(Recording, EveryStandardSettingRecordsWholeStepsThatMatchTheTruth) {
  for (const Setting& setting : standard_settings()) {
    SCOPED_TRACE(setting.name);
    const RecordedRun run = record(setting);
    ASSERT_EQ(run.cases.size(), 18U);
    EXPECT_EQ(run.layers.front(), "layer1.0.conv1");
    for (const LayerCase& layer : run.cases) {
      SCOPED_TRACE(layer.layer);
      ASSERT_EQ(layer.view.size(), 4U);
      for (size_t i = 0; i < 2; ++i) {
        const StepView& seen = layer.view[i];
        const StepTruth& plain = layer.truth[i];
        for (const auto& [blinded, open] : {std::pair{&seen.x, &plain.x},
                                            {&seen.y, &plain.y},
                                            {&seen.w, &plain.w},
                                            {&seen.dy, &plain.dy},
                                            {&seen.dx, &plain.dx},
                                            {&seen.dw, &plain.dw}}) {
          ASSERT_FALSE(blinded->empty());
          EXPECT_TRUE(blinded->same_shape(*open));
        }
        // W~_k = R^T W_k M^-T
        const Matrix inner_inverse_t = plain.inner.inverse().transpose();
        EXPECT_LT(relative_difference(seen.w, transform(plain.right.transpose(), plain.w, inner_inverse_t)), 1e-4);
        const Reuse reuse = setting.blinding.reuse;
        EXPECT_EQ(seen.dy_for_dw.empty(), reuse == Reuse::kFull || reuse == Reuse::kSplit);
        EXPECT_EQ(seen.x_again.empty(), setting.blinding.reuse != Reuse::kNone);
        EXPECT_EQ(seen.w_again.empty(), reuse != Reuse::kNone && reuse != Reuse::kSplit);
        if (plain.inner_again.size() == 0 || plain.right_again.size() == 0) continue;
        // dX~ = L^-T dX N^-T under the key that W~ was sent again under, and dW~ = M^T dW Q^-T.
        if (!seen.w_again.empty() && reuse == Reuse::kSplit) {
          const Matrix again_inverse_t = plain.inner_again.inverse().transpose();
          EXPECT_LT(
              relative_difference(seen.w_again, transform(plain.right_again.transpose(), plain.w, again_inverse_t)),
              1e-4);
        }
        if (reuse != Reuse::kNone) {
          EXPECT_LT(relative_difference(seen.dw, transform(plain.right_again.inverse(), plain.dw, plain.inner)), 1e-3);
        }
        const Matrix dy = seen.dy.by_channel();
        EXPECT_LT((seen.dy_products - dy.transpose() * dy).norm(), 1e-4 * seen.dy_products.norm());
      }
      EXPECT_FALSE(layer.view[3].x.empty());
      EXPECT_LE(layer.view[3].x.values.size(), 6000U);
      EXPECT_TRUE(layer.view[3].y.empty());
      EXPECT_TRUE(layer.view[3].dw.same_shape(layer.view[3].w));
      EXPECT_EQ(layer.view[3].dy_products.rows(), layer.out());
      EXPECT_EQ(layer.view[3].w_again.empty(), layer.view[0].w_again.empty());
      const StepView& first = layer.view[0];
      if (first.x_products.size() == 0) {
        EXPECT_GT(first.x.positions() * first.x.channels, 600);
      } else if (layer.view[1].x_products.size() != 0) {  // the next step has another key
        const Matrix rows = first.x.by_row();
        EXPECT_LT((first.x_products - rows.transpose() * rows).norm(), 1e-4 * first.x_products.norm());
      }
      EXPECT_GE(layer.truth[0].labels.size(), 8U);  // and the decoys
    }
  }
}

TEST_F(Recording, OperandsWithoutProtectionEqualThePlainOnes) {
  const Setting none = standard_settings().front();
  ASSERT_EQ(none.blinding.protection, "none");
  for (const LayerCase& layer : record(none).cases) {
    EXPECT_EQ(relative_difference(layer.view[0].x, layer.truth[0].x), 0);
    EXPECT_EQ(relative_difference(layer.view[0].w, layer.truth[0].w), 0);
    EXPECT_LT(relative_difference(layer.view[0].dx, layer.truth[0].dx), 1e-6);
    EXPECT_LT(relative_difference(layer.view[0].dw, layer.truth[0].dw), 1e-6);
    EXPECT_LT(relative_difference(weight_operand(*state_, layer.layer), layer.truth[0].w), 1e-6);
  }
}

TEST_F(Recording, TheSameModelOnTheSameInputsGivesTheRecordedActivations) {
  const Setting none = standard_settings().front();
  const SecretKey root = SecretKey::random();
  const RecordedRun run = record_run(tiny(), *state_, *data_, none, {.full_steps = 2, .steps = 2}, root);
  const auto inputs = layer_inputs(tiny(), *state_, *data_, root, run.layers, run.input_geometry);
  for (size_t i = 0; i < run.cases.size(); ++i)
    EXPECT_LT(relative_difference(inputs[i], run.cases[i].truth[0].x), 1e-3) << run.layers[i];
}

TEST_F(Recording, TheLastLayerIsRecordedAsAWorkerWouldSeeIt) {
  const LayerCase last = last_layer_case(tiny(), *state_, *data_, default_setting(), SecretKey::random());
  EXPECT_EQ(last.layer, "fc");
  EXPECT_TRUE(last.counterfactual);
  EXPECT_EQ(last.view[0].dy.channels, 10);
  EXPECT_EQ(last.truth[0].labels.size(), 8U);
}

TEST_F(Recording, WrittenFilesHoldTheView) {
  const tempo::testing::TempFolder folder;
  const RecordedRun run = record(default_setting());
  write_recording(run, folder / "view");
  const auto file =
      train::parse_safetensors(read_file(folder / "view" / "layer1.0.conv1.view.safetensors", 1 << 30), "view");
  const auto* x = file.find("step0.x");
  ASSERT_NE(x, nullptr);
  EXPECT_EQ(x->data.size(), run.cases[0].view[0].x.values.size() * sizeof(float));
  EXPECT_EQ(file.find("step0.inner"), nullptr);  // keys are the truth's
  EXPECT_TRUE(std::filesystem::file_size(folder / "view" / "events.jsonl") > 1000);
}

}  // namespace recording_test
}  // namespace tempo::audit
