#include <fmt/format.h>
#include <torch/torch.h>

#include "nn/layers.h"
#include "nn/probe.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

constexpr double kMomentum = 0.1;

}  // namespace

BatchNorm2dImpl::BatchNorm2dImpl(int64_t channels, double eps) : eps_(eps) {
  weight = register_parameter("weight", torch::zeros({channels}));
  bias = register_parameter("bias", torch::zeros({channels}));
  running_mean = register_buffer("running_mean", torch::zeros({channels}));
  running_var = register_buffer("running_var", torch::ones({channels}));
  num_batches_tracked = register_buffer("num_batches_tracked", torch::zeros({}, torch::kInt64));
}

torch::Tensor BatchNorm2dImpl::forward(const torch::Tensor& x) {
  if (is_training()) {
    if (x.numel() == x.size(1)) {
      throw InputError(fmt::format(
          "batch norm: got a batch of {} with {}x{} maps, expected at least two values per channel in training; "
          "use a larger batch or larger images",
          x.size(0), x.size(2), x.size(3)));
    }
    num_batches_tracked.add_(1);
  }
  torch::Tensor y = torch::batch_norm(x, weight, bias, running_mean, running_var, is_training(), kMomentum, eps_,
                                      /*cudnn_enabled=*/true);
  report_call(*this, "", x, {}, y);
  return y;
}

LayerNormImpl::LayerNormImpl(int64_t width, double eps) : width_(width), eps_(eps) {
  weight = register_parameter("weight", torch::zeros({width}));
  bias = register_parameter("bias", torch::zeros({width}));
}

torch::Tensor LayerNormImpl::forward(const torch::Tensor& x) {
  torch::Tensor y = torch::layer_norm(x, {width_}, weight, bias, eps_);
  report_call(*this, "", x, {}, y);
  return y;
}

}  // namespace tempo::nn
