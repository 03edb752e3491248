#include "audit/surrogate.h"

#include <gtest/gtest.h>

#include "audit/algebra/matching.h"

#include "train/data/synthetic.h"

namespace tempo::audit {
namespace surrogate_test {

TEST(Surrogate, TheWhiteBoxEqualsTheVictimAndTheBlackBoxDoesNot) {
  const train::DataSplits data = train::make_synthetic(300, 100, 1, 16);
  VictimOptions options;
  options.batch_size = 32;
  options.steps = 60;
  options.warmup_steps = 5;
  options.lr = 0.02;  // at 0.05 a victim now and then knows one class alone, which no change of an image alters
  // Judged on what the victim was trained on: it is right about enough of it.
  const StealTarget target{model_options(options, data.train), train_plain(options, data, true), data.train,
                           data.train};
  SurrogateOptions fine_tuning;
  fine_tuning.steps = 1;
  fine_tuning.lr = 0;  // judged as it starts
  fine_tuning.transfer_images = 60;
  fine_tuning.membership_images = 100;
  const Budget budget = standard_budgets(target, data.train).front();
  EXPECT_EQ(budget.name, "50 queries");

  const SurrogateResult white = steal(target, "white box", target.state, budget, fine_tuning);
  const SurrogateResult black = steal(target, "black box", surrogate_start(target.model, {}), budget, fine_tuning);
  EXPECT_GT(white.fidelity, 0.8);  // a step of batch norm moves its statistics, so not 1
  EXPECT_LT(black.fidelity, 0.5);
  EXPECT_GT(white.transfer, black.transfer);
}

TEST(Surrogate, ASurrogateStartsFromTheRecoveredWeights) {
  VictimOptions options;
  const train::DataSplits data = train::make_synthetic(20, 10, 1, 32);
  const nn::ModelOptions model = model_options(options, data.train);
  Operand weight(16, 3, 3, 16);
  for (size_t i = 0; i < weight.values.size(); ++i) weight.values[i] = static_cast<float>(i % 7) - 3;
  const State state = surrogate_start(model, {{"layer1.0.conv2", weight}});
  EXPECT_NEAR(absolute_cosine(weight_operand(state, "layer1.0.conv2"), weight), 1, 1e-6);
  EXPECT_LT(absolute_cosine(weight_operand(state, "layer1.0.conv1"), weight), 0.3);
}

}  // namespace surrogate_test
}  // namespace tempo::audit
