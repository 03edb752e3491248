/// The models Tempo trains, by name.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/csprng.h"

namespace tempo::nn {

/// A classifier: [N, channels, side, side] -> logits [N, classes].
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
  int64_t image_side = 32;  ///< pixels; 32 takes the CIFAR stem, 64 and more the ImageNet stem
  int64_t image_channels = 3;
};

/// resnet20, resnet18, resnet34, resnet50, vgg16, vit_tiny, vit_small, vit_base, mlp, lenet.
std::vector<std::string> model_names();

/// Parameters are not initialised (zeros). Memory format is channels-last.
/// @throws InputError for an unknown name (lists the known ones) or an image size the model cannot take.
std::shared_ptr<Model> make_model(const ModelOptions& options);

}  // namespace tempo::nn
