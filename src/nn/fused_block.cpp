#include <torch/torch.h>

#include "nn/layers.h"

namespace tempo::nn {

torch::Tensor conv_norm_act(Conv2d& conv, BatchNorm2d& norm, const torch::Tensor& x, Activation activation,
                            const torch::Tensor& residual) {
  return norm->forward(conv->forward(x), activation, residual);
}

}  // namespace tempo::nn
