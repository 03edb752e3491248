/// The models Tempo trains, by name.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/csprng.h"

namespace tempo::nn {

/// A classifier. Takes [N, channels, side, side], returns logits [N, classes].
class Model : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;
  virtual torch::Tensor forward(torch::Tensor x) = 0;
  /// Draws every parameter anew from `random`, by the rules of the model's reference implementation.
  virtual void initialise(Csprng& random) = 0;
};

struct ModelOptions {
  std::string name;  ///< one of `model_names()`
  int64_t classes = 10;
  int64_t image_side = 32;  ///< pixels a side; below 64 models have the CIFAR stem, from 64 the ImageNet stem
  int64_t image_channels = 3;
};

/// resnet20, resnet18, resnet34, resnet50, vgg16, vit_tiny, vit_small, vit_base, mlp, lenet.
std::vector<std::string> model_names();

/// Makes a model whose parameters are not initialised. Memory format is channels-last.
/// @throws InputError for an unknown name (lists the known ones), for classes, side or channels below 1, or for an
/// image size that the model cannot take.
std::shared_ptr<Model> make_model(const ModelOptions& options);

}  // namespace tempo::nn
