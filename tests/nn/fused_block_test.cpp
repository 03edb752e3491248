// Blocks of convolution, batch norm, ReLU and a skip connection: offloaded, with whatever passes are fused with
// blinding, they must train as plain ones do.
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <string>

#include "nn/blinding_cases.h"
#include "nn/layers.h"
#include "nn/offloaded.h"
#include "nn/probe.h"
#include "support/faulty_worker.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace fused_block_test {

using torch::Tensor;

constexpr uint64_t kSeed = 20261126;
constexpr double kTolerance = 2e-4;

/// 1x1, 3x3, 1x1, as a ResNet-50's blocks are, with a projection around them where shapes differ.
struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(int64_t stride) {
    const auto convolution = [&](const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t by) {
      return register_module(
          name, Conv2d(ConvOptions{.in = in, .out = out, .kernel = kernel, .stride = by, .padding = kernel / 2}));
    };
    conv1 = convolution("conv1", 24, 10, 1, 1);
    conv2 = convolution("conv2", 10, 18, 3, stride);
    conv3 = convolution("conv3", 18, 24, 1, 1);
    if (stride > 1) around = convolution("around", 24, 24, 1, stride);
    for (auto [name, norm, channels] : {std::tuple{"bn1", &bn1, 10}, {"bn2", &bn2, 18}, {"bn3", &bn3, 24}})
      *norm = register_module(name, BatchNorm2d(channels));
    const torch::NoGradGuard no_grad;
    for (auto& parameter : parameters()) parameter.copy_(torch::randn_like(parameter));
  }
  Tensor forward(const Tensor& x) {
    Tensor skip;
    BlockInput y = conv_norm_act_for(conv2, {conv1, bn1}, x, Activation::kRelu, &skip);
    defers_first = y.norm != nullptr;
    y = conv_norm_act_for(conv3, {conv2, bn2}, y, Activation::kRelu);
    defers_second = y.norm != nullptr;
    return conv_norm_act({conv3, bn3}, y, Activation::kRelu, around ? around->forward(skip) : skip);
  }
  void attach(offload::Session& session) {
    for (const auto& item : named_modules("", false))
      if (auto* layer = item.value()->as<Conv2dImpl>()) {
        const auto& o = layer->options();
        layer->attach(std::make_shared<BilinearProduct>(
            session, item.key(),
            offload::ProductGeometry{o.in, o.out, o.kernel, o.kernel, o.stride, o.padding, o.dilation}));
      }
  }

  Conv2d conv1{nullptr}, conv2{nullptr}, conv3{nullptr}, around{nullptr};
  BatchNorm2d bn1{nullptr}, bn2{nullptr}, bn3{nullptr};
  bool defers_first = false, defers_second = false;
};
TORCH_MODULE(Block);

Tensor images(int64_t seed) {
  torch::manual_seed(seed);
  return (torch::randn({3, 24, 7, 6}) + 2).contiguous(at::MemoryFormat::ChannelsLast);
}

/// Results, gradients and running statistics.
std::map<std::string, Tensor> train(Block& block, offload::Session* session, int64_t steps) {
  std::map<std::string, Tensor> all;
  for (int64_t step = 1; step <= steps; ++step) {
    if (session != nullptr) session->begin_pass({obfuscation::Period::kStep, static_cast<uint64_t>(step), 0});
    block->zero_grad();
    const Tensor x = images(step).requires_grad_();
    const Tensor y = block->forward(x);
    (y * images(step + 10).mean() + y.square()).sum().backward();
    const std::string number = std::to_string(step);
    all["y" + number] = y.detach();
    all["dx" + number] = x.grad();
    for (const auto& item : block->named_parameters())
      if (item.value().grad().defined()) all["d" + item.key() + number] = item.value().grad().clone();
  }
  for (const auto& item : block->named_buffers()) all[item.key()] = item.value().clone();
  return all;
}

Block make_block(int64_t stride) {
  torch::manual_seed(kSeed);
  Block block(stride);
  block->train();
  return block;
}

/// @param resides weights stay on the workers, and their gradients with them
void expect_trains_as_plain(offload::Session& session, int64_t stride, bool resides, Block* trained = nullptr) {
  Block plain = make_block(stride), offloaded = make_block(stride);
  offloaded->attach(session);
  const int64_t steps = resides ? 1 : 2;  // resident weights want an update between two
  const auto want = train(plain, nullptr, steps), got = train(offloaded, &session, steps);
  for (const auto& [name, tensor] : want) {
    const auto found = got.find(name);
    if (resides && found == got.end()) continue;
    ASSERT_TRUE(found != got.end()) << name;
    const Tensor difference = (found->second - tensor).to(torch::kFloat64);
    EXPECT_LE(difference.norm().item<double>(), kTolerance * (1e-3 + tensor.to(torch::kFloat64).norm().item<double>()))
        << name;
  }
  if (trained != nullptr) *trained = offloaded;
}

TEST(FusedBlock, BlindedTrainingEqualsPlainTrainingUnderEverySetting) {
  for (const BlindingOptions& options : testing::blinding_cases())
    for (const int64_t stride : {1, 2}) {
      SCOPED_TRACE(fmt::format("{} | stride {} | seed {}", train::describe(options), stride, kSeed));
      const auto session = testing::make_session(options);
      Block trained{nullptr};
      expect_trains_as_plain(*session, stride, options.weights == WeightPlacement::kResident, &trained);
      // Verification of 3x3 kernels wants their operand in memory.
      EXPECT_FALSE(trained->defers_first);
      EXPECT_EQ(trained->defers_second, options.protection == "permuted");
    }
}

TEST(FusedBlock, BlindedTrainingEqualsPlainTrainingWithoutVerification) {
  for (const BlindingOptions& options : testing::blinding_cases())
    for (const int64_t stride : {1, 2})
      for (const int64_t slices : {1, 3}) {
        if (options.protection != "permuted") continue;
        SCOPED_TRACE(fmt::format("{} | stride {} | slices {}", train::describe(options), stride, slices));
        BlindingOptions sliced = options;
        sliced.slices = static_cast<int>(slices);
        offload::Session session(sliced, key_from_seed_insecure(11), offload::make_inprocess_worker("cpu", 1), 2);
        Block trained{nullptr};
        expect_trains_as_plain(session, stride, false, &trained);
        EXPECT_TRUE(trained->defers_first && trained->defers_second);
      }
}

/// What was never in memory must be made again for a worker that comes in for one that died.
TEST(FusedBlock, ADeferredNormIsComputedAgainForAWorkerThatReplacesALostOne) {
  for (const int after : {0, 1, 3, 5, 8, 11, 14}) {
    SCOPED_TRACE(fmt::format("dies after {} operations", after));
    std::map<std::string, std::shared_ptr<contract::Worker>> workers;
    for (const auto& name : {"a", "b"})
      workers[name] = std::make_shared<testing::FaultyWorker>(
          offload::make_inprocess_worker("cpu", 1), name,
          std::string(name) == "b" ? testing::Fault::kDies : testing::Fault::kNone, after);
    const auto connect = [&](const std::string& name) { return workers.at(name); };
    offload::Session session(
        {.protection = "permuted", .weights = WeightPlacement::kReturned, .decoys = 0}, key_from_seed_insecure(11),
        std::make_unique<offload::WorkerPool>(std::vector<std::string>{"a", "b"}, connect, connect), 2,
        {.policy = integrity::Policy::kAlways, .probability = 1});
    expect_trains_as_plain(session, 1, false);
    EXPECT_EQ(session.workers().active(), 1U);
  }
}

/// Statistics are taken above the running mean, which may be far from this batch.
TEST(FusedBlock, ARunningMeanFarFromTheBatchDoesNotChangeTheResult) {
  for (const float mean : {100.0F, -1e10F, std::numeric_limits<float>::infinity()}) {
    SCOPED_TRACE(mean);
    const auto session =
        testing::make_session({.protection = "permuted", .weights = WeightPlacement::kReturned, .decoys = 0});
    Block plain = make_block(1), offloaded = make_block(1);
    offloaded->attach(*session);
    for (auto* block : {&plain, &offloaded})
      for (auto* norm : {&(*block)->bn1, &(*block)->bn2, &(*block)->bn3}) (*norm)->running_mean.fill_(mean);
    session->begin_pass({obfuscation::Period::kStep, 1, 0});
    const Tensor want = plain->forward(images(1)), got = offloaded->forward(images(1));
    EXPECT_LE((got - want).norm().item<double>(), kTolerance * want.norm().item<double>());
  }
}

/// What was left to the next convolution is not lost where only some norms train, or where it cannot do it.
TEST(FusedBlock, AConvolutionAppliesADeferredNormOrRefusesIt) {
  offload::Session session({.protection = "permuted", .weights = WeightPlacement::kReturned, .decoys = 0},
                           key_from_seed_insecure(11), offload::make_inprocess_worker("cpu", 1), 2);
  Block plain = make_block(1), offloaded = make_block(1);
  offloaded->attach(session);
  plain->bn2->eval();
  offloaded->bn2->eval();
  session.begin_pass({obfuscation::Period::kStep, 1, 0});
  const Tensor want = plain->forward(images(1)), got = offloaded->forward(images(1));
  EXPECT_TRUE(offloaded->defers_first);
  EXPECT_LE((got - want).norm().item<double>(), kTolerance * want.norm().item<double>());

  const BlockInput deferred =
      conv_norm_act_for(offloaded->conv2, {offloaded->conv1, offloaded->bn1}, images(1), Activation::kRelu);
  ASSERT_TRUE(deferred.norm != nullptr);
  Tensor skip;
  EXPECT_THROW(conv_norm_act({offloaded->conv2, offloaded->bn2}, deferred, Activation::kRelu, {}, &skip), InputError);
  offloaded->conv2->attach(nullptr);
  EXPECT_THROW(conv_norm_act({offloaded->conv2, offloaded->bn2}, deferred, Activation::kRelu), InputError);
}

/// A backward pass that was refused does not spoil the next.
TEST(FusedBlock, ABackwardPassSucceedsAfterOneThatWasRefused) {
  const auto session =
      testing::make_session({.protection = "permuted", .weights = WeightPlacement::kReturned, .decoys = 0});
  Block plain = make_block(1), offloaded = make_block(1);
  offloaded->attach(*session);
  session->begin_pass({obfuscation::Period::kStep, 1, 0});
  const Tensor loss = offloaded->forward(images(1)).square().sum();
  EXPECT_THROW(loss.backward({}, true, true), InputError);
  offloaded->zero_grad();
  loss.backward();
  plain->forward(images(1)).square().sum().backward();
  const Tensor want = plain->bn2->weight.grad(), got = offloaded->bn2->weight.grad();
  ASSERT_TRUE(got.defined());
  EXPECT_LE((got - want).norm().item<double>(), kTolerance * want.norm().item<double>());
}

TEST(FusedBlock, NoNormIsDeferredWhileLayerCallsAreObserved) {
  const auto session =
      testing::make_session({.protection = "permuted", .weights = WeightPlacement::kReturned, .decoys = 0});
  Block block = make_block(1);
  block->attach(*session);
  session->begin_pass({obfuscation::Period::kStep, 1, 0});
  int calls = 0;
  {
    const ScopedProbe probe([&](const LayerCall&) { ++calls; });
    block->forward(images(1));
  }
  EXPECT_EQ(calls, 6);
  EXPECT_FALSE(block->defers_second) << "probed";
  {
    const torch::NoGradGuard no_grad;
    block->forward(images(1));
    EXPECT_FALSE(block->defers_second) << "without gradients";
  }
  block->eval();
  block->forward(images(1));
  EXPECT_FALSE(block->defers_second) << "in evaluation";
  block->train();
  keep_activations(*block, torch::kBFloat16);
  block->forward(images(1));
  EXPECT_FALSE(block->defers_second) << "kept in bf16";
  keep_activations(*block, torch::kFloat32);
  block->forward(images(1));
  EXPECT_TRUE(block->defers_second);
}

}  // namespace fused_block_test
}  // namespace tempo::nn
