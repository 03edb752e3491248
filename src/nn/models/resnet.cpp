// He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv:1512.03385 (2015).
#include <torch/nn/module.h>
#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nn/layers.h"
#include "nn/models/factories.h"
#include "nn/models/initialise.h"

namespace tempo::nn {
namespace {

struct ResNetSpec {
  std::vector<int64_t> depths;  ///< blocks per stage; the width doubles and the side halves from stage to stage
  int64_t width;                ///< channels of the first stage, before a bottleneck's expansion
  bool bottleneck;
  bool padded_shortcut;  ///< option A of the paper (no parameters) instead of torchvision's 1x1 projection
};

constexpr int64_t kExpansion = 4;  // channels of a bottleneck's last convolution, in widths

Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1) {
  return Conv2d(ConvOptions{.in = in, .out = out, .kernel = kernel, .stride = stride, .padding = kernel / 2});
}

/// The shortcut around a block whose input and output differ in shape.
class Shortcut : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;
};

class ProjectedShortcut : public Shortcut {
 public:
  ProjectedShortcut(int64_t in, int64_t out, int64_t stride) {
    conv_ = register_module("0", conv(in, out, 1, stride));
    norm_ = register_module("1", BatchNorm2d(out));
  }
  torch::Tensor forward(const torch::Tensor& x) override { return conv_norm_act({conv_, norm_}, x, Activation::kNone); }

 private:
  Conv2d conv_{nullptr};
  BatchNorm2d norm_{nullptr};
};

class PaddedShortcut : public Shortcut {
 public:
  PaddedShortcut(int64_t in, int64_t out, int64_t stride) : stride_(stride), padding_((out - in) / 2) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    const torch::Tensor kept = x.slice(2, 0, x.size(2), stride_).slice(3, 0, x.size(3), stride_);
    return torch::constant_pad_nd(kept, {0, 0, 0, 0, padding_, padding_}).contiguous(torch::MemoryFormat::ChannelsLast);
  }

 private:
  int64_t stride_, padding_;
};

struct BlockShape {
  int64_t in, width, stride;
  bool padded_shortcut;
};

class Block : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;

 protected:
  // Registered last, as torchvision does.
  void register_shortcut(const BlockShape& shape, int64_t out) {
    if (shape.stride == 1 && shape.in == out) return;
    if (shape.padded_shortcut)
      shortcut_ = std::make_shared<PaddedShortcut>(shape.in, out, shape.stride);
    else
      shortcut_ = std::make_shared<ProjectedShortcut>(shape.in, out, shape.stride);
    register_module("downsample", shortcut_);
  }
  torch::Tensor around(const torch::Tensor& x) { return shortcut_ ? shortcut_->forward(x) : x; }

 private:
  std::shared_ptr<Shortcut> shortcut_;
};

class BasicBlock : public Block {
 public:
  explicit BasicBlock(const BlockShape& shape) {
    conv1_ = register_module("conv1", conv(shape.in, shape.width, 3, shape.stride));
    bn1_ = register_module("bn1", BatchNorm2d(shape.width));
    conv2_ = register_module("conv2", conv(shape.width, shape.width, 3));
    bn2_ = register_module("bn2", BatchNorm2d(shape.width));
    register_shortcut(shape, shape.width);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    torch::Tensor skip;
    const BlockInput y = conv_norm_act_for(conv2_, {conv1_, bn1_}, x, Activation::kRelu, &skip);
    return conv_norm_act({conv2_, bn2_}, y, Activation::kRelu, around(skip));
  }

 private:
  Conv2d conv1_{nullptr}, conv2_{nullptr};
  BatchNorm2d bn1_{nullptr}, bn2_{nullptr};
};

// "v1.5": the stride is on the 3x3 convolution, as in torchvision, not on the first 1x1 as in the paper.
class Bottleneck : public Block {
 public:
  explicit Bottleneck(const BlockShape& shape) {
    const int64_t out = shape.width * kExpansion;
    conv1_ = register_module("conv1", conv(shape.in, shape.width, 1));
    bn1_ = register_module("bn1", BatchNorm2d(shape.width));
    conv2_ = register_module("conv2", conv(shape.width, shape.width, 3, shape.stride));
    bn2_ = register_module("bn2", BatchNorm2d(shape.width));
    conv3_ = register_module("conv3", conv(shape.width, out, 1));
    bn3_ = register_module("bn3", BatchNorm2d(out));
    register_shortcut(shape, out);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    torch::Tensor skip;
    BlockInput y = conv_norm_act_for(conv2_, {conv1_, bn1_}, x, Activation::kRelu, &skip);
    y = conv_norm_act_for(conv3_, {conv2_, bn2_}, y, Activation::kRelu);
    return conv_norm_act({conv3_, bn3_}, y, Activation::kRelu, around(skip));
  }

 private:
  Conv2d conv1_{nullptr}, conv2_{nullptr}, conv3_{nullptr};
  BatchNorm2d bn1_{nullptr}, bn2_{nullptr}, bn3_{nullptr};
};

class ResNet : public Model {
 public:
  ResNet(const ModelOptions& options, const ResNetSpec& spec)
      : options_(options), large_stem_(!spec.padded_shortcut && options.image_side >= kImageNetSide) {
    conv1_ = register_module("conv1", large_stem_ ? conv(options.image_channels, spec.width, 7, 2)
                                                  : conv(options.image_channels, spec.width, 3));
    bn1_ = register_module("bn1", BatchNorm2d(spec.width));
    int64_t channels = spec.width;
    for (size_t stage = 0; stage < spec.depths.size(); ++stage) channels = add_stage(spec, stage, channels);
    fc_ = register_module("fc", Linear(channels, options.classes));
  }

  torch::Tensor forward(torch::Tensor x) override {
    x = conv_norm_act({conv1_, bn1_}, model_input(x, options_), Activation::kRelu);
    if (large_stem_) x = torch::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
    for (const auto& block : blocks_) x = block->forward(x);
    return fc_->forward(torch::adaptive_avg_pool2d(x, {1, 1}).flatten(1));
  }

  void initialise(Csprng& random) override {
    for (const auto& module : modules(/*include_self=*/false)) {
      if (auto* layer = module->as<Conv2dImpl>()) init_kaiming_fan_out(*layer, random);
      if (auto* norm = module->as<BatchNorm2dImpl>()) init_norm(*norm);
      if (auto* layer = module->as<LinearImpl>()) init_torch_default(*layer, random);
    }
  }

 private:
  // Returns the number of channels of the stage's output.
  int64_t add_stage(const ResNetSpec& spec, size_t stage, int64_t in) {
    const auto blocks = register_module("layer" + std::to_string(stage + 1), std::make_shared<torch::nn::Module>());
    const int64_t width = spec.width << stage;
    const int64_t out = spec.bottleneck ? width * kExpansion : width;
    for (int64_t index = 0; index < spec.depths[stage]; ++index) {
      const int64_t stride = stage > 0 && index == 0 ? 2 : 1;
      const BlockShape shape{index == 0 ? in : out, width, stride, spec.padded_shortcut};
      std::shared_ptr<Block> block;
      if (spec.bottleneck)
        block = std::make_shared<Bottleneck>(shape);
      else
        block = std::make_shared<BasicBlock>(shape);
      blocks_.push_back(blocks->register_module(std::to_string(index), block));
    }
    return out;
  }

  ModelOptions options_;
  bool large_stem_;  // 7x7 stride 2 and a max pool, as for ImageNet
  Conv2d conv1_{nullptr};
  BatchNorm2d bn1_{nullptr};
  std::vector<std::shared_ptr<Block>> blocks_;
  Linear fc_{nullptr};
};

}  // namespace

std::shared_ptr<Model> make_resnet(const ModelOptions& options) {
  static const std::map<std::string, ResNetSpec> specs = {
      {"resnet20", {{3, 3, 3}, 16, false, true}},
      {"resnet18", {{2, 2, 2, 2}, 64, false, false}},
      {"resnet34", {{3, 4, 6, 3}, 64, false, false}},
      {"resnet50", {{3, 4, 6, 3}, 64, true, false}},
  };
  return std::make_shared<ResNet>(options, specs.at(options.name));
}

}  // namespace tempo::nn
