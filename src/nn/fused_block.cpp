#include <torch/types.h>

#include <memory>

#include "nn/deferred_norm.h"
#include "nn/layers.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

/// The result of a convolution that a batch norm reads.
struct Convolved {
  torch::Tensor y;
  std::shared_ptr<ResultMoments> moments;  // nullptr if they were not computed
};

Convolved convolve(const ConvNorm& block, const BlockInput& x, torch::Tensor* skip) {
  auto& [conv, norm] = block;
  if (x.norm && skip != nullptr)
    throw InputError("fused block: a skip connection around a norm that its convolution makes, expected one in memory");
  if (!norm->is_training() || !conv->takes_moments()) return {conv->forward(x.x, {x.norm, nullptr, skip}), nullptr};
  auto moments = std::make_shared<ResultMoments>();
  const float* const mean = norm->running_mean.data_ptr<float>();
  moments->shift.assign(mean, mean + norm->running_mean.numel());  // usually near the mean of this batch
  torch::Tensor y = conv->forward(x.x, {x.norm, moments, skip});
  return {y, moments};
}

}  // namespace

torch::Tensor conv_norm_act(const ConvNorm& block, const BlockInput& x, Activation activation,
                            const torch::Tensor& residual, torch::Tensor* skip) {
  const Convolved convolved = convolve(block, x, skip);
  return block.norm->forward(convolved.y, activation, residual, convolved.moments);
}

BlockInput conv_norm_act_for(Conv2d& next, const ConvNorm& block, const BlockInput& x, Activation activation,
                             torch::Tensor* skip) {
  const Convolved convolved = convolve(block, x, skip);
  if (next->makes_operand() && block.norm->can_defer(convolved.y))
    return {convolved.y, block.norm->defer(convolved.y, activation, convolved.moments)};
  return block.norm->forward(convolved.y, activation, {}, convolved.moments);
}

}  // namespace tempo::nn
