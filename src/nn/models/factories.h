/// One factory for each family of models, called by `make_model` with options that it has checked, and what the
/// factories share.
#pragma once

#include <torch/types.h>

#include <memory>

#include "nn/model.h"

namespace tempo::nn {

/// Images with this many pixels a side or more get the stem and the head of the ImageNet models.
inline constexpr int64_t kImageNetSide = 64;

std::shared_ptr<Model> make_mlp(const ModelOptions& options);
std::shared_ptr<Model> make_lenet(const ModelOptions& options);
std::shared_ptr<Model> make_resnet(const ModelOptions& options);
std::shared_ptr<Model> make_vgg(const ModelOptions& options);
std::shared_ptr<Model> make_vit(const ModelOptions& options);

/// Checks that `x` is [N, channels, side, side] and returns it in channels-last memory.
/// @throws InputError otherwise.
torch::Tensor model_input(const torch::Tensor& x, const ModelOptions& options);

}  // namespace tempo::nn
