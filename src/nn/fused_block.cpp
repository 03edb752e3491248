#include <torch/torch.h>

#include "nn/layers.h"

namespace tempo::nn {

torch::Tensor conv_norm_act(Conv2d& conv, BatchNorm2d& norm, const torch::Tensor& x, Activation activation,
                            const torch::Tensor& residual, torch::Tensor* skip) {
  return norm->forward(conv->forward(x, skip), activation, residual);
}

}  // namespace tempo::nn
