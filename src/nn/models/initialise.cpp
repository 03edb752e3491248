#include "nn/models/initialise.h"

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace tempo::nn {
namespace {

void zero_bias(ProductLayer& layer) {
  const torch::NoGradGuard no_grad;
  if (layer.bias.defined()) layer.bias.zero_();
}

double inputs_of_one_output(const torch::Tensor& weight) {
  return static_cast<double>(weight.numel()) / static_cast<double>(weight.size(0));
}

double outputs_of_one_input(const torch::Tensor& weight) {
  return static_cast<double>(weight.numel()) / static_cast<double>(weight.size(1));
}

}  // namespace

void init_torch_default(ProductLayer& layer, Csprng& random) {
  const double bound = 1.0 / std::sqrt(inputs_of_one_output(layer.weight));
  init_uniform(layer.weight, bound, random);
  if (layer.bias.defined()) init_uniform(layer.bias, bound, random);
}

void init_kaiming_fan_out(ProductLayer& layer, Csprng& random) {
  init_normal_weight(layer, std::sqrt(2.0 / outputs_of_one_input(layer.weight)), random);
}

void init_normal_weight(ProductLayer& layer, double stddev, Csprng& random) {
  init_normal(layer.weight, stddev, random);
  zero_bias(layer);
}

void init_truncated_weight(ProductLayer& layer, double stddev, Csprng& random) {
  init_truncated_normal(layer.weight, stddev, random);
  zero_bias(layer);
}

void init_norm(BatchNorm2dImpl& norm) {
  const torch::NoGradGuard no_grad;
  norm.weight.fill_(1);
  norm.bias.zero_();
  norm.running_mean.zero_();
  norm.running_var.fill_(1);
  norm.num_batches_tracked.zero_();
}

void init_norm(LayerNormImpl& norm) {
  const torch::NoGradGuard no_grad;
  norm.weight.fill_(1);
  norm.bias.zero_();
}

}  // namespace tempo::nn
