// Dosovitskiy et al.: "An image is worth 16x16 words", arXiv:2010.11929 (2020), with the names of timm.
#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nn/layers.h"
#include "nn/models/encoder_block.h"
#include "nn/models/factories.h"
#include "nn/models/initialise.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

struct VitSpec {
  int64_t width, heads;
};

constexpr int64_t kDepth = 12;
constexpr double kInitStddev = 0.02;

int64_t patch_side(int64_t image_side) { return image_side <= 64 ? 4 : 16; }

class Vit : public Model {
 public:
  Vit(const ModelOptions& options, const VitSpec& spec) : options_(options) {
    const int64_t patch = patch_side(options.image_side);
    const int64_t patches = options.image_side / patch;
    cls_token_ = register_parameter("cls_token", torch::zeros({1, 1, spec.width}));
    pos_embed_ = register_parameter("pos_embed", torch::zeros({1, 1 + patches * patches, spec.width}));

    const ConvOptions proj{
        .in = options.image_channels, .out = spec.width, .kernel = patch, .stride = patch, .bias = true};
    const auto patch_embed = register_module("patch_embed", std::make_shared<torch::nn::Module>());
    patch_proj_ = patch_embed->register_module("proj", Conv2d(proj));

    const auto blocks = register_module("blocks", std::make_shared<torch::nn::Module>());
    for (int64_t index = 0; index < kDepth; ++index)
      blocks_.push_back(blocks->register_module(std::to_string(index), EncoderBlock(spec.width, spec.heads)));
    norm_ = register_module("norm", LayerNorm(spec.width));
    head_ = register_module("head", Linear(spec.width, options.classes));
  }

  torch::Tensor forward(torch::Tensor x) override {
    x = patch_proj_->forward(model_input(x, options_)).flatten(2).transpose(1, 2);
    x = torch::cat({cls_token_.expand({x.size(0), -1, -1}), x}, 1) + pos_embed_;
    for (auto& block : blocks_) x = block->forward(x);
    // Only the class token is read. The norm is per token, so the other tokens need not pass it.
    return head_->forward(norm_->forward(x.select(1, 0)));
  }

  void initialise(Csprng& random) override {
    init_normal(cls_token_, 1e-6, random);
    init_truncated_normal(pos_embed_, kInitStddev, random);
    for (const auto& module : modules(/*include_self=*/false)) {
      if (auto* layer = module->as<Conv2dImpl>()) init_torch_default(*layer, random);
      if (auto* layer = module->as<LinearImpl>()) init_truncated_weight(*layer, kInitStddev, random);
      if (auto* norm = module->as<LayerNormImpl>()) init_norm(*norm);
    }
  }

 private:
  ModelOptions options_;
  torch::Tensor cls_token_, pos_embed_;
  Conv2d patch_proj_{nullptr};
  std::vector<EncoderBlock> blocks_;
  LayerNorm norm_{nullptr};
  Linear head_{nullptr};
};

}  // namespace

std::shared_ptr<Model> make_vit(const ModelOptions& options) {
  static const std::map<std::string, VitSpec> specs = {
      {"vit_tiny", {192, 3}}, {"vit_small", {384, 6}}, {"vit_base", {768, 12}}};
  const int64_t patch = patch_side(options.image_side);
  if (options.image_side % patch != 0)
    throw InputError(fmt::format("model: got an image side of {} for {}, expected a multiple of its patch side {}",
                                 options.image_side, options.name, patch));
  return std::make_shared<Vit>(options, specs.at(options.name));
}

}  // namespace tempo::nn
