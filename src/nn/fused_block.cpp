#include <torch/torch.h>

#include "nn/layers.h"

namespace tempo::nn {

torch::Tensor conv_norm_act(Conv2d& conv, BatchNorm2d& norm, const torch::Tensor& x, Activation activation,
                            const torch::Tensor& residual) {
  // In place from here on: the gradient of batch norm reads its input and its statistics, never its output, and the
  // gradient of relu reads only its own output. One map per block is kept for backward instead of three.
  torch::Tensor y = norm->forward(conv->forward(x));
  if (residual.defined()) y.add_(residual);
  if (activation == Activation::kRelu) y.relu_();
  return y;
}

}  // namespace tempo::nn
