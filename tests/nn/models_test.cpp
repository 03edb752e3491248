#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/layers.h"
#include "nn/model.h"
#include "nn/probe.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace models_test {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Pair;

constexpr uint64_t kSeed = 20240;

class Models : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { at::set_num_threads(2); }
};

torch::Tensor random_tensor(at::IntArrayRef sizes, uint64_t seed = kSeed, torch::ScalarType type = torch::kFloat32) {
  torch::Tensor tensor = torch::empty(sizes, type);
  Csprng random(key_from_seed_insecure(seed));
  init_normal(tensor, 1.0, random);
  return tensor;
}

std::shared_ptr<Model> initialised(const ModelOptions& options, uint64_t seed = kSeed) {
  auto model = make_model(options);
  Csprng random(key_from_seed_insecure(seed));
  model->initialise(random);
  return model;
}

int64_t parameter_count(const ModelOptions& options) {
  int64_t count = 0;
  for (const auto& parameter : make_model(options)->parameters()) count += parameter.numel();
  return count;
}

using NamedShapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;

NamedShapes parameter_shapes(const Model& model) {
  NamedShapes shapes;
  for (const auto& item : model.named_parameters()) shapes.emplace_back(item.key(), item.value().sizes().vec());
  return shapes;
}

std::vector<std::string> buffer_names(const Model& model) { return model.named_buffers().keys(); }

template <typename Action>
std::string input_error(const Action& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no InputError";
}

TEST_F(Models, EveryModelReturnsOneRowOfLogitsPerImage) {
  const std::vector<ModelOptions> all = {{"mlp", 7, 28, 1},       {"lenet", 7, 28, 1},    {"lenet", 7, 32, 3},
                                         {"resnet20", 7, 32, 3},  {"resnet18", 7, 32, 3}, {"resnet18", 7, 64, 3},
                                         {"resnet34", 7, 32, 3},  {"resnet50", 7, 32, 3}, {"resnet50", 7, 64, 3},
                                         {"vgg16", 7, 32, 3},     {"vgg16", 7, 64, 3},    {"vit_tiny", 7, 32, 3},
                                         {"vit_small", 7, 16, 3}, {"vit_tiny", 7, 80, 3}, {"vit_base", 7, 16, 3}};
  const torch::NoGradGuard no_grad;
  for (const ModelOptions& options : all) {
    SCOPED_TRACE(fmt::format("{} side {}", options.name, options.image_side));
    const torch::Tensor x = random_tensor({2, options.image_channels, options.image_side, options.image_side});
    const torch::Tensor logits = make_model(options)->forward(x);
    EXPECT_THAT(logits.sizes().vec(), ElementsAre(2, 7));
  }
}

TEST_F(Models, ModelNamesListsEveryModelAndEachCanBeMade) {
  EXPECT_THAT(model_names(), ElementsAre("mlp", "lenet", "resnet20", "resnet18", "resnet34", "resnet50", "vgg16",
                                         "vit_tiny", "vit_small", "vit_base"));
  for (const std::string& name : model_names()) EXPECT_NE(make_model({.name = name}), nullptr) << name;
}

// The counts of torchvision 0.14 and timm.
TEST_F(Models, ParameterCountsEqualThoseOfTorchvisionAndTimm) {
  EXPECT_EQ(parameter_count({"mlp", 10, 28, 1}), 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10);
  EXPECT_EQ(parameter_count({"lenet", 10, 28, 1}), 61'706);
  EXPECT_EQ(parameter_count({"resnet20", 10, 32, 3}), 269'722);
  EXPECT_EQ(parameter_count({"resnet18", 10, 32, 3}), 11'173'962);
  EXPECT_EQ(parameter_count({"resnet18", 1000, 224, 3}), 11'689'512);
  EXPECT_EQ(parameter_count({"resnet34", 1000, 224, 3}), 21'797'672);
  EXPECT_EQ(parameter_count({"resnet50", 1000, 224, 3}), 25'557'032);
  EXPECT_EQ(parameter_count({"vgg16", 1000, 224, 3}), 138'365'992);
  EXPECT_EQ(parameter_count({"vit_tiny", 1000, 224, 3}), 5'717'416);
  EXPECT_EQ(parameter_count({"vit_small", 1000, 224, 3}), 22'050'664);
  EXPECT_EQ(parameter_count({"vit_base", 1000, 224, 3}), 86'567'656);
}

TEST_F(Models, ResNetParametersHaveTorchvisionsNamesAndShapes) {
  const auto model = make_model({"resnet50", 1000, 224, 3});
  const NamedShapes shapes = parameter_shapes(*model);
  EXPECT_EQ(shapes.size(), 161U);
  EXPECT_THAT(shapes.front(), Pair("conv1.weight", ElementsAre(64, 3, 7, 7)));
  EXPECT_THAT(shapes, Contains(Pair("layer2.0.conv1.weight", ElementsAre(128, 256, 1, 1))));
  EXPECT_THAT(shapes, Contains(Pair("layer2.0.conv2.weight", ElementsAre(128, 128, 3, 3))));
  EXPECT_THAT(shapes, Contains(Pair("layer2.0.downsample.0.weight", ElementsAre(512, 256, 1, 1))));
  EXPECT_THAT(shapes, Contains(Pair("layer2.0.downsample.1.bias", ElementsAre(512))));
  EXPECT_THAT(shapes, Contains(Pair("layer4.2.bn3.weight", ElementsAre(2048))));
  EXPECT_THAT(shapes.back(), Pair("fc.bias", ElementsAre(1000)));
  EXPECT_EQ(buffer_names(*model).size(), 53U * 3);
  EXPECT_THAT(buffer_names(*model), Contains("layer1.0.downsample.1.num_batches_tracked"));

  const auto small = make_model({"resnet20", 10, 32, 3});
  EXPECT_THAT(parameter_shapes(*small), Contains(Pair("layer3.2.conv2.weight", ElementsAre(64, 64, 3, 3))));
  EXPECT_EQ(parameter_shapes(*small).size(), 19U * 3 + 2);
}

TEST_F(Models, VggParametersHaveTorchvisionsNamesAndShapes) {
  const NamedShapes shapes = parameter_shapes(*make_model({"vgg16", 10, 32, 3}));
  EXPECT_EQ(shapes.size(), 13U * 4 + 6);
  EXPECT_THAT(shapes, Contains(Pair("features.0.bias", ElementsAre(64))));
  EXPECT_THAT(shapes, Contains(Pair("features.7.weight", ElementsAre(128, 64, 3, 3))));
  EXPECT_THAT(shapes, Contains(Pair("features.40.weight", ElementsAre(512, 512, 3, 3))));
  EXPECT_THAT(shapes, Contains(Pair("features.41.weight", ElementsAre(512))));
  EXPECT_THAT(shapes, Contains(Pair("classifier.3.weight", ElementsAre(512, 512))));
  EXPECT_THAT(shapes.back(), Pair("classifier.6.bias", ElementsAre(10)));
}

TEST_F(Models, VitParametersHaveTimmsNamesAndShapes) {
  NamedShapes expected = {{"cls_token", {1, 1, 192}},
                          {"pos_embed", {1, 65, 192}},
                          {"patch_embed.proj.weight", {192, 3, 4, 4}},
                          {"patch_embed.proj.bias", {192}}};
  for (int block = 0; block < 12; ++block) {
    const NamedShapes names = {{"norm1.weight", {192}},          {"norm1.bias", {192}},
                               {"attn.qkv.weight", {576, 192}},  {"attn.qkv.bias", {576}},
                               {"attn.proj.weight", {192, 192}}, {"attn.proj.bias", {192}},
                               {"norm2.weight", {192}},          {"norm2.bias", {192}},
                               {"mlp.fc1.weight", {768, 192}},   {"mlp.fc1.bias", {768}},
                               {"mlp.fc2.weight", {192, 768}},   {"mlp.fc2.bias", {192}}};
    for (const auto& [name, shape] : names) expected.emplace_back(fmt::format("blocks.{}.{}", block, name), shape);
  }
  for (const auto& [name, shape] :
       NamedShapes{{"norm.weight", {192}}, {"norm.bias", {192}}, {"head.weight", {10, 192}}, {"head.bias", {10}}})
    expected.emplace_back(name, shape);
  EXPECT_EQ(parameter_shapes(*make_model({"vit_tiny", 10, 32, 3})), expected);
}

TEST_F(Models, InitialValuesDependOnTheSeedAlone) {
  for (const std::string name : {"mlp", "lenet", "resnet20", "vit_tiny"}) {
    SCOPED_TRACE(name);
    const ModelOptions options{.name = name};
    const auto first = initialised(options), second = initialised(options), other = initialised(options, kSeed + 1);
    {
      const torch::NoGradGuard no_grad;
      for (auto& parameter : second->parameters()) parameter.add_(1);
    }
    Csprng random(key_from_seed_insecure(kSeed));
    second->initialise(random);
    const auto a = first->parameters(), b = second->parameters(), c = other->parameters();
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::equal(a[i], b[i])) << first->named_parameters().keys()[i];
    EXPECT_FALSE(torch::equal(a[0], c[0]));
  }
}

TEST_F(Models, InitialValuesHaveTheDistributionsOfTheReference) {
  const auto resnet = initialised({"resnet18", 10, 32, 3})->named_parameters();
  const torch::Tensor& conv = resnet["layer3.0.conv1.weight"];  // [256, 128, 3, 3]: fan_out 256 * 9
  EXPECT_NEAR(conv.std().item<double>(), std::sqrt(2.0 / (256 * 9)), 2e-4);
  EXPECT_NEAR(conv.mean().item<double>(), 0.0, 2e-4);
  EXPECT_TRUE((resnet["layer3.0.bn1.weight"] == 1).all().item<bool>());
  EXPECT_NEAR(resnet["fc.weight"].abs().max().item<double>(), 1 / std::sqrt(512.0), 1e-4);
  EXPECT_GT(resnet["fc.bias"].abs().max().item<double>(), 0.0);

  const auto vit = initialised({"vit_tiny", 10, 32, 3})->named_parameters();
  const torch::Tensor& qkv = vit["blocks.3.attn.qkv.weight"];
  EXPECT_LE(qkv.abs().max().item<double>(), 0.04 + 1e-7);
  EXPECT_NEAR(qkv.std().item<double>(), 0.02 * 0.8796, 2e-4);  // the deviation left by truncation at two
  EXPECT_LT(vit["cls_token"].abs().max().item<double>(), 1e-5);
  EXPECT_NEAR(vit["patch_embed.proj.weight"].abs().max().item<double>(), 1 / std::sqrt(48.0), 1e-3);

  const auto vgg = initialised({"vgg16", 10, 32, 3})->named_parameters();
  EXPECT_NEAR(vgg["classifier.0.weight"].std().item<double>(), 0.01, 1e-4);
  EXPECT_FALSE(vgg["features.0.bias"].any().item<bool>());
}

TEST_F(Models, InitialValuesDoNotDependOnTheMemoryFormat) {
  torch::Tensor plain = torch::empty({4, 3, 5, 5});
  torch::Tensor channels_last = torch::empty({4, 3, 5, 5}, torch::MemoryFormat::ChannelsLast);
  torch::Tensor wide = torch::empty({4, 3, 5, 5}, torch::kFloat64);
  for (torch::Tensor* tensor : {&plain, &channels_last, &wide}) {
    Csprng random(key_from_seed_insecure(kSeed));
    init_uniform(*tensor, 0.5, random);
  }
  EXPECT_TRUE(torch::equal(plain, channels_last));
  EXPECT_TRUE(torch::equal(plain, wide.to(torch::kFloat32)));
  EXPECT_TRUE(channels_last.is_contiguous(torch::MemoryFormat::ChannelsLast));
}

TEST_F(Models, WeightsAndActivationsAreChannelsLast) {
  const auto is_channels_last = [](const torch::Tensor& tensor) {
    return tensor.dim() != 4 || tensor.is_contiguous(torch::MemoryFormat::ChannelsLast);
  };
  for (const std::string name : {"resnet20", "resnet50", "vgg16", "lenet", "vit_tiny"}) {
    SCOPED_TRACE(name);
    const auto model = make_model({.name = name});
    for (const auto& item : model->named_parameters()) EXPECT_TRUE(is_channels_last(item.value())) << item.key();
    int calls = 0;
    const ScopedProbe probe([&](const LayerCall& call) {
      ++calls;
      EXPECT_TRUE(is_channels_last(call.input) && is_channels_last(call.output)) << "call " << calls;
    });
    model->forward(random_tensor({2, 3, 32, 32}));
    EXPECT_GT(calls, 0);
  }
}

TEST_F(Models, EveryParameterGetsAGradient) {
  for (const std::string name : {"mlp", "lenet", "resnet20", "resnet18", "resnet50", "vgg16", "vit_tiny"}) {
    SCOPED_TRACE(name);
    const auto model = initialised({.name = name});
    const torch::Tensor labels = torch::arange(4);
    torch::cross_entropy_loss(model->forward(random_tensor({4, 3, 32, 32})), labels).backward();
    const bool is_vgg = name == "vgg16";
    for (const auto& item : model->named_parameters()) {
      ASSERT_TRUE(item.value().grad().defined()) << item.key();
      EXPECT_TRUE(item.value().grad().isfinite().all().item<bool>()) << item.key();
      // Batch norm cancels the bias of the convolution before it: that gradient is rounding, and may be zero.
      const bool cancelled = is_vgg && item.key().starts_with("features.") && item.key().ends_with(".bias");
      EXPECT_TRUE(cancelled || item.value().grad().any().item<bool>()) << item.key();
    }
  }
}

// ResNet-20 written out with torch's functions, in eval mode.
torch::Tensor plain_resnet20(const Model& model, torch::Tensor x) {
  const auto weights = model.named_parameters();
  const auto statistics = model.named_buffers();
  const auto block = [&](const std::string& conv, const std::string& norm, const torch::Tensor& in, int64_t stride) {
    return torch::batch_norm(torch::conv2d(in, weights[conv + ".weight"], {}, stride, 1), weights[norm + ".weight"],
                             weights[norm + ".bias"], statistics[norm + ".running_mean"],
                             statistics[norm + ".running_var"], false, 0.1, 1e-5, false);
  };
  x = torch::relu(block("conv1", "bn1", x, 1));
  for (int stage = 1; stage <= 3; ++stage)
    for (int index = 0; index < 3; ++index) {
      const std::string name = fmt::format("layer{}.{}.", stage, index);
      const bool first = stage > 1 && index == 0;
      torch::Tensor around = x;
      if (first) {
        using torch::indexing::None;
        using torch::indexing::Slice;
        const torch::Tensor kept = x.index({Slice(), Slice(), Slice(None, None, 2), Slice(None, None, 2)});
        const torch::Tensor nothing = torch::zeros({x.size(0), x.size(1) / 2, kept.size(2), kept.size(3)}, x.dtype());
        around = torch::cat({nothing, kept, nothing}, 1);
      }
      const torch::Tensor y = torch::relu(block(name + "conv1", name + "bn1", x, first ? 2 : 1));
      x = torch::relu(block(name + "conv2", name + "bn2", y, 1) + around);
    }
  return torch::linear(x.mean({2, 3}), weights["fc.weight"], weights["fc.bias"]);
}

TEST_F(Models, ResNet20EqualsAPlainImplementationOfThePaper) {
  const auto model = initialised({"resnet20", 10, 32, 3});
  const torch::Tensor x = random_tensor({4, 3, 32, 32});
  model->forward(x);  // moves the running statistics off their start
  model->to(torch::kFloat64);
  model->eval();
  const torch::Tensor wide = x.to(torch::kFloat64);
  EXPECT_TRUE(torch::allclose(model->forward(wide), plain_resnet20(*model, wide), 1e-10, 1e-10));
}

TEST_F(Models, ConvNormActEqualsConvolutionNormAndActivationInTurn) {
  Conv2d conv(ConvOptions{.in = 3, .out = 5, .kernel = 3, .stride = 2, .padding = 1});
  BatchNorm2d norm(5);
  Csprng random(key_from_seed_insecure(kSeed));
  for (torch::Tensor* tensor : {&conv->weight, &norm->weight, &norm->bias}) init_normal(*tensor, 1.0, random);
  conv->to(torch::kFloat64);
  norm->to(torch::kFloat64);
  const auto leaf = [](at::IntArrayRef sizes, uint64_t seed) {
    return random_tensor(sizes, seed, torch::kFloat64).requires_grad_();
  };
  const torch::Tensor x = leaf({4, 3, 6, 6}, 1), residual = leaf({4, 5, 3, 3}, 2);
  const std::vector<torch::Tensor> inputs = {x, residual, conv->weight, norm->weight, norm->bias};
  const torch::Tensor direction = random_tensor({4, 5, 3, 3}, 3, torch::kFloat64);

  const torch::Tensor fused = conv_norm_act({conv, norm}, x, Activation::kRelu, residual);
  const torch::Tensor plain = torch::relu(torch::batch_norm(torch::conv2d(x, conv->weight, {}, 2, 1), norm->weight,
                                                            norm->bias, {}, {}, true, 0.1, 1e-5, false) +
                                          residual);
  EXPECT_TRUE(torch::allclose(fused, plain, 1e-10, 1e-12));
  const auto got = torch::autograd::grad({(fused * direction).sum()}, inputs);
  const auto want = torch::autograd::grad({(plain * direction).sum()}, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(torch::allclose(got[i], want[i], 1e-9, 1e-11)) << i;
}

TEST_F(Models, BatchNormHasTheRunningStatisticsOfTorch) {
  BatchNorm2d ours(3);
  torch::nn::BatchNorm2d theirs(3);
  const torch::Tensor x = random_tensor({4, 3, 5, 5}).contiguous(torch::MemoryFormat::ChannelsLast);
  {
    const torch::NoGradGuard no_grad;
    ours->weight.fill_(1);
  }
  for (int step = 0; step < 3; ++step) EXPECT_TRUE(torch::allclose(ours->forward(x), theirs->forward(x), 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(ours->running_mean, theirs->running_mean));
  EXPECT_TRUE(torch::allclose(ours->running_var, theirs->running_var));
  EXPECT_EQ(ours->num_batches_tracked.item<int64_t>(), 3);
  ours->eval();
  theirs->eval();
  EXPECT_TRUE(torch::allclose(ours->forward(x), theirs->forward(x), 1e-5, 1e-6));
  EXPECT_EQ(ours->num_batches_tracked.item<int64_t>(), 3);
}

TEST_F(Models, AttentionEqualsTorchsMultiheadAttention) {
  constexpr int64_t kWidth = 12, kHeads = 3, kTokens = 5, kBatch = 2;
  Attention ours(kWidth, kHeads);
  torch::nn::MultiheadAttention theirs(kWidth, kHeads);
  Csprng random(key_from_seed_insecure(kSeed));
  for (torch::Tensor& parameter : ours->parameters()) init_normal(parameter, 0.3, random);
  const torch::NoGradGuard no_grad;
  theirs->in_proj_weight.copy_(ours->qkv->weight);
  theirs->in_proj_bias.copy_(ours->qkv->bias);
  theirs->out_proj->weight.copy_(ours->proj->weight);
  theirs->out_proj->bias.copy_(ours->proj->bias);
  const torch::Tensor x = random_tensor({kBatch, kTokens, kWidth});
  const torch::Tensor token_first = x.transpose(0, 1);
  const torch::Tensor want = std::get<0>(theirs->forward(token_first, token_first, token_first)).transpose(0, 1);
  EXPECT_TRUE(torch::allclose(ours->forward(x), want, 1e-4, 1e-5));
}

TEST_F(Models, BatchNormRefusesToTrainOnOneValuePerChannel) {
  BatchNorm2d norm(8);
  const std::string message = input_error([&] { norm->forward(torch::zeros({1, 8, 1, 1})); });
  EXPECT_EQ(message,
            "batch norm: got a batch of 1 with 1x1 maps, expected at least two values per channel in training; "
            "use a larger batch or larger images");
  norm->eval();
  EXPECT_NO_THROW(norm->forward(torch::zeros({1, 8, 1, 1})));
  norm->train();
  EXPECT_NO_THROW(norm->forward(torch::zeros({2, 8, 1, 1})));
  // Three halvings of the CIFAR stem: a map of 1x1 is left at the end.
  const auto model = make_model({"resnet18", 10, 8, 3});
  EXPECT_THAT(input_error([&] {
                model->forward(torch::zeros({1, 3, 8, 8}));
              }),
              ::testing::StartsWith("batch norm: got a batch of 1 with 1x1 maps"));
}

TEST_F(Models, MakeModelRefusesUnknownNamesAndSizes) {
  const auto made = [](const ModelOptions& options) { return input_error([&] { make_model(options); }); };
  EXPECT_EQ(made({"resnet51", 10, 32, 3}),
            "model: got \"resnet51\", expected one of mlp, lenet, resnet20, resnet18, resnet34, resnet50, vgg16, "
            "vit_tiny, vit_small, vit_base");
  EXPECT_EQ(made({"vit_tiny", 10, 30, 3}),
            "model: got an image side of 30 for vit_tiny, expected a multiple of its patch side 4");
  EXPECT_EQ(made({"vit_base", 10, 100, 3}),
            "model: got an image side of 100 for vit_base, expected a multiple of its patch side 16");
  EXPECT_EQ(made({"vgg16", 10, 28, 3}), "model: got an image side of 28 for vgg16, expected at least 32");
  EXPECT_EQ(made({"lenet", 10, 11, 1}), "model: got an image side of 11 for lenet, expected at least 12");
  EXPECT_EQ(made({"mlp", 0, 28, 1}), "model: got classes = 0, expected at least 1");
  EXPECT_EQ(made({"mlp", 10, -1, 1}), "model: got image_side = -1, expected at least 1");
  EXPECT_EQ(made({"mlp", 10, 28, 0}), "model: got image_channels = 0, expected at least 1");

  const auto model = make_model({"vit_tiny", 10, 32, 3});
  EXPECT_EQ(input_error([&] {
              model->forward(torch::zeros({2, 3, 28, 28}));
            }),
            "model: vit_tiny got an input of [2, 3, 28, 28], expected [N, 3, 32, 32]");
}

}  // namespace models_test
}  // namespace tempo::nn
