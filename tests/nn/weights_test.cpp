// Weights that are public or secret, frozen or trained, resident or returned: the products are those of the plain
// weight, and workers hold of it what the facts say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstring>

#include "nn/blinding_cases.h"
#include "nn/offloaded.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace weights_test {

using offload::WeightFacts;
using ::testing::HasSubstr;
using testing::message_of;
using torch::Tensor;

constexpr int64_t kSeed = 20261130;

/// Remembers operands of one size.
class WatchingWorker final : public contract::Worker {
 public:
  contract::WorkerDescription describe() override { return inner_->describe(); }
  contract::Buffer allocate(const contract::TensorSpec& spec) override { return inner_->allocate(spec); }
  void put(contract::OperandId id, contract::Buffer operand) override {
    if (operand.spec().elements() == watched) {
      std::vector<float> values(static_cast<size_t>(watched));
      std::memcpy(values.data(), operand.data(), operand.bytes());
      seen.push_back(std::move(values));
    }
    inner_->put(id, std::move(operand));
  }
  void free(std::vector<contract::OperandId> ids) override { inner_->free(std::move(ids)); }
  std::future<contract::Buffer> submit(contract::Operation operation) override {
    return inner_->submit(std::move(operation));
  }

  int64_t watched = 0;
  std::vector<std::vector<float>> seen;

 private:
  std::shared_ptr<contract::Worker> inner_ = offload::make_inprocess_worker("cpu", 1);
};

std::string to_string(const WeightFacts& facts) {
  return fmt::format("{} {} {}", facts.is_public ? "public" : "secret", facts.is_trained ? "trained" : "frozen",
                     facts.is_resident ? "resident" : "returned");
}

/// Under settings that allow a weight to stay on workers, or any if it does not.
std::vector<BlindingOptions> cases_for(const WeightFacts& facts) {
  std::vector<BlindingOptions> cases;
  for (BlindingOptions options : testing::blinding_cases())
    if (options.weights == WeightPlacement::kReturned && (!facts.is_resident || options.reuse == Reuse::kFull))
      cases.push_back(options);
  return cases;
}

const std::vector<WeightFacts> kFrozen = {{.is_public = false, .is_trained = false, .is_resident = false},
                                          {.is_public = false, .is_trained = false, .is_resident = true},
                                          {.is_public = true, .is_trained = false, .is_resident = false},
                                          {.is_public = true, .is_trained = false, .is_resident = true}};

TEST(Weights, ProductsWithFrozenWeightsEqualPlainOnesUnderEverySetting) {
  for (const WeightFacts& facts : kFrozen)
    for (const BlindingOptions& options : cases_for(facts)) {
      SCOPED_TRACE(fmt::format("{} | {} | seed {}", to_string(facts), train::describe(options), kSeed));
      torch::manual_seed(kSeed);
      const auto session = testing::make_session(options);
      const auto layer =
          std::make_shared<BilinearProduct>(*session, "conv", offload::ProductGeometry{9, 14, 3, 3, 1, 1, 1}, facts);
      const Tensor w = torch::randn({14, 9, 3, 3});
      for (uint64_t step = 0; step < 3; ++step) {
        session->begin_pass({obfuscation::Period::kStep, step, 0});
        const Tensor x = torch::randn({3, 9, 6, 5}).requires_grad_();
        const Tensor y = offloaded_conv2d(layer, x, w, {});
        const Tensor plain_x = x.detach().clone().requires_grad_();
        const Tensor want = torch::conv2d(plain_x, w, {}, 1, 1);
        EXPECT_LT((y - want).norm().item<double>() / want.norm().item<double>(), 1e-4);
        const Tensor dy = torch::randn_like(want);
        want.backward(dy);
        y.backward(dy);
        const Tensor dx = plain_x.grad();
        EXPECT_LT((x.grad() - dx).norm().item<double>() / dx.norm().item<double>(), 1e-4);
      }
    }
}

TEST(Weights, WorkersHoldAPublicWeightAsItIsAndASecretOneBlinded) {
  for (const WeightFacts& facts : kFrozen) {
    SCOPED_TRACE(to_string(facts));
    const auto worker = std::make_shared<WatchingWorker>();
    worker->watched = 23 * 11;
    offload::Session session({.decoys = 0}, SecretKey::random(), worker, 1);
    const auto layer =
        std::make_shared<BilinearProduct>(session, "fc", offload::ProductGeometry{.in = 23, .out = 11}, facts);
    const Tensor w = torch::randn({11, 23});
    for (uint64_t step = 0; step < 3; ++step) {
      session.begin_pass({obfuscation::Period::kStep, step, 0});
      offloaded_linear(layer, torch::randn({6, 23}), w, {});
    }
    ASSERT_EQ(worker->seen.size(), facts.is_resident ? 1U : 3U);
    const bool is_plain = std::equal(worker->seen[0].begin(), worker->seen[0].end(), w.data_ptr<float>());
    EXPECT_EQ(is_plain, facts.is_public);
    if (!facts.is_resident) {
      EXPECT_EQ(worker->seen[0] == worker->seen[1], facts.is_public) << "keys of two passes";
    }
    layer->parameter()->forget();
    session.begin_pass({obfuscation::Period::kStep, 3, 0});
    offloaded_linear(layer, torch::randn({6, 23}), w, {});
    EXPECT_EQ(worker->seen.size(), facts.is_resident ? 2U : 4U) << "a weight that was forgotten is sent again";
  }
}

TEST(Weights, AFrozenSecretWeightGetsNewKeysAtIntervalsAndAPublicOneStays) {
  for (const bool is_public : {false, true}) {
    const auto worker = std::make_shared<WatchingWorker>();
    worker->watched = 23 * 11;
    offload::Session session({.rekey_interval = 2, .decoys = 0}, SecretKey::random(), worker, 1);
    const auto layer = std::make_shared<BilinearProduct>(
        session, "fc", offload::ProductGeometry{.in = 23, .out = 11},
        WeightFacts{.is_public = is_public, .is_trained = false, .is_resident = true});
    const Tensor w = torch::randn({11, 23}), x = torch::randn({6, 23});
    for (uint64_t step = 0; step < 5; ++step) {
      session.begin_pass({obfuscation::Period::kStep, step, 0});
      const Tensor y = offloaded_linear(layer, x, w, {});
      EXPECT_LT((y - torch::linear(x, w)).norm().item<double>(), 1e-3);
      session.begin_pass({obfuscation::Period::kEvaluation, step, 0});
      offloaded_linear(layer, x, w, {});
    }
    ASSERT_EQ(worker->seen.size(), is_public ? 1U : 3U);
    if (!is_public) {
      EXPECT_NE(worker->seen[0], worker->seen[1]);
    }
  }
}

TEST(Weights, TrainingCallsAllWeightsAlike) {
  const auto session = testing::make_session({.protection = "rotated", .weights = WeightPlacement::kReturned});
  const offload::ProductGeometry geometry{.in = 6, .out = 5};
  for (const WeightFacts& facts : kFrozen) {
    BilinearProduct layer(*session, to_string(facts), geometry, facts);
    offload::Parameter& weight = *layer.parameter();
    EXPECT_FALSE(weight.keeps_gradient());
    EXPECT_FALSE(weight.gradient_squared_norm().has_value());
    weight.step({.step = 1, .learning_rate = 1});
    EXPECT_FALSE(weight.save().has_value());
    EXPECT_FALSE(weight.fetch({}, {}));
    weight.replicate();
    weight.forget();
  }
}

TEST(Weights, FactsThatCannotHoldTogetherAreRefused) {
  const auto session = testing::make_session({.protection = "permuted", .weights = WeightPlacement::kReturned});
  const offload::ProductGeometry geometry{.in = 6, .out = 5};
  const auto refusal = [&](const WeightFacts& facts) {
    return message_of<InputError>([&] { BilinearProduct(*session, "fc", geometry, facts); });
  };
  EXPECT_THAT(refusal({.is_public = true}), HasSubstr("a public weight that is trained"));
  EXPECT_THAT(refusal({.is_resident = true}), HasSubstr("orthogonal keys"));
}

TEST(Weights, TheGradientOfAFrozenWeightIsRefused) {
  const auto session = testing::make_session({.protection = "rotated", .weights = WeightPlacement::kReturned});
  const auto layer = std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 6, .out = 5},
                                                       WeightFacts{.is_trained = false});
  session->begin_pass({obfuscation::Period::kStep, 0, 0});
  const Tensor w = torch::randn({5, 6}).requires_grad_();
  const Tensor y = offloaded_linear(layer, torch::randn({4, 6}), w, {});
  EXPECT_THAT(message_of<InputError>([&] { y.sum().backward(); }), HasSubstr("the gradient of a frozen weight"));
}

}  // namespace weights_test
}  // namespace tempo::nn
