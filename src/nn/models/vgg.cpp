// Simonyan, Zisserman: "Very deep convolutional networks for large-scale image recognition", arXiv:1409.1556 (2014),
// with batch norm: torchvision's vgg16_bn.
#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "nn/layers.h"
#include "nn/models/factories.h"
#include "nn/models/initialise.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

struct Stage {
  int64_t width, convs;  ///< a 2x2 max pool follows each stage
};
constexpr std::array<Stage, 5> kStages = {{{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}}};
constexpr int64_t kFeatures = kStages.back().width;
constexpr int64_t kSmallestSide = 1 << kStages.size();
constexpr int64_t kPooledSide = 7;  // side of the map that the ImageNet classifier reads
constexpr double kDropout = 0.5;

// For small images the map after the last pool is 1x1, the classifier is 512 wide and there is no dropout. All
// randomness of a run is then Tempo's own stream. The ImageNet head has torchvision's dropout, whose masks come from
// LibTorch's generator: a resumed run does not repeat them.
class Vgg16 : public Model {
 public:
  explicit Vgg16(const ModelOptions& options) : options_(options), large_head_(options.image_side >= kImageNetSide) {
    add_features();
    const int64_t pixels = large_head_ ? kPooledSide * kPooledSide : 1;
    const int64_t hidden = large_head_ ? 4096 : kFeatures;
    const auto classifier = register_module("classifier", std::make_shared<torch::nn::Module>());
    fc1_ = classifier->register_module("0", Linear(kFeatures * pixels, hidden));
    fc2_ = classifier->register_module("3", Linear(hidden, hidden));
    fc3_ = classifier->register_module("6", Linear(hidden, options.classes));
  }

  torch::Tensor forward(torch::Tensor x) override {
    x = model_input(x, options_);
    size_t layer = 0;
    for (const Stage& stage : kStages) {
      for (int64_t i = 0; i < stage.convs; ++i, ++layer)
        x = conv_norm_act({convs_[layer], norms_[layer]}, x, Activation::kRelu);
      x = torch::max_pool2d(x, /*kernel_size=*/2);
    }
    if (large_head_) x = torch::adaptive_avg_pool2d(x, {kPooledSide, kPooledSide});
    x = dropout(torch::relu(fc1_->forward(x.flatten(1))));
    x = dropout(torch::relu(fc2_->forward(x)));
    return fc3_->forward(x);
  }

  void initialise(Csprng& random) override {
    for (const auto& module : modules(/*include_self=*/false)) {
      if (auto* layer = module->as<Conv2dImpl>()) init_kaiming_fan_out(*layer, random);
      if (auto* norm = module->as<BatchNorm2dImpl>()) init_norm(*norm);
      if (auto* layer = module->as<LinearImpl>()) init_normal_weight(*layer, 0.01, random);
    }
  }

 private:
  // Layers have the numbers of torchvision's Sequential, which counts activations and pools as well.
  void add_features() {
    const auto features = register_module("features", std::make_shared<torch::nn::Module>());
    int64_t index = 0;
    int64_t in = options_.image_channels;
    for (const Stage& stage : kStages) {
      for (int64_t i = 0; i < stage.convs; ++i, index += 3) {
        const ConvOptions conv{.in = in, .out = stage.width, .kernel = 3, .padding = 1, .bias = true};
        convs_.push_back(features->register_module(std::to_string(index), Conv2d(conv)));
        norms_.push_back(features->register_module(std::to_string(index + 1), BatchNorm2d(stage.width)));
        in = stage.width;
      }
      ++index;
    }
  }

  torch::Tensor dropout(const torch::Tensor& x) const {
    return large_head_ && is_training() ? torch::dropout(x, kDropout, /*train=*/true) : x;
  }

  ModelOptions options_;
  bool large_head_;
  std::vector<Conv2d> convs_;
  std::vector<BatchNorm2d> norms_;
  Linear fc1_{nullptr}, fc2_{nullptr}, fc3_{nullptr};
};

}  // namespace

std::shared_ptr<Model> make_vgg(const ModelOptions& options) {
  if (options.image_side < kSmallestSide)
    throw InputError(fmt::format("model: got an image side of {} for {}, expected at least {}", options.image_side,
                                 options.name, kSmallestSide));
  return std::make_shared<Vgg16>(options);
}

}  // namespace tempo::nn
