#include "nn/layers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "nn/deferred_norm.h"
#include "nn/offloaded.h"
#include "nn/probe.h"
#include "nn/token_functions.h"
#include "tempo/error.h"

namespace tempo::nn {

using torch::Tensor;

Conv2dImpl::Conv2dImpl(const ConvOptions& options) : options_(options) {
  const auto& o = options_;
  weight = register_parameter(
      "weight",
      torch::zeros({o.out, o.in / o.groups, o.kernel, o.kernel}).contiguous(torch::MemoryFormat::ChannelsLast));
  if (o.bias) bias = register_parameter("bias", torch::zeros({o.out}));
}

bool Conv2dImpl::takes_moments() const {
  return blinded_ && !bias.defined() && torch::GradMode::is_enabled() && !is_probed() &&
         weight.scalar_type() == torch::kFloat32 && blinded_->takes_moments();
}

bool Conv2dImpl::makes_operand() const { return takes_moments() && blinded_->makes_operand(); }

Tensor Conv2dImpl::forward(const Tensor& x) { return forward(x, LayerTaps()); }

Tensor Conv2dImpl::forward(const Tensor& x, const LayerTaps& taps) {
  const auto& o = options_;
  if (x.dim() != 4 || x.size(1) != o.in)
    throw InputError(fmt::format("conv2d: input is [{}], expected [N, {}, H, W]", fmt::join(x.sizes(), ", "), o.in));
  if (std::min(x.size(2), x.size(3)) + 2 * o.padding < o.dilation * (o.kernel - 1) + 1)
    throw InputError(fmt::format("conv2d: image of {}x{} is smaller than the kernel, {}x{} with padding {}", x.size(2),
                                 x.size(3), o.kernel, o.kernel, o.padding));
  if (taps.norm && !makes_operand())
    throw InputError("conv2d: got the input of a norm, which it cannot apply here; expected an activation");
  if (taps.skip != nullptr) *taps.skip = x;
  Tensor y = blinded_ ? offloaded_conv2d(blinded_, x, weight, bias, taps)
                      : torch::conv2d(x.contiguous(torch::MemoryFormat::ChannelsLast), weight, bias, o.stride,
                                      o.padding, o.dilation, o.groups);
  report_call(*this, "", x, weight, y);
  return y;
}

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias) : in_(in), out_(out) {
  weight = register_parameter("weight", torch::zeros({out_, in_}));
  if (with_bias) bias = register_parameter("bias", torch::zeros({out_}));
}

Tensor LinearImpl::product(const Tensor& x) {
  if (x.dim() < 1 || x.size(-1) != in_)
    throw InputError(fmt::format("linear: input is [{}], expected [..., {}]", fmt::join(x.sizes(), ", "), in_));
  Tensor y = blinded_ ? offloaded_linear(blinded_, x, weight, {}) : torch::linear(x, weight);
  report_call(*this, "", x, weight, y);
  return y;
}

Tensor LinearImpl::forward(const Tensor& x, const Tensor& residual) { return add_bias_(product(x), bias, residual); }

void keep_activations(torch::nn::Module& model, torch::ScalarType type) {
  for (const auto& module : model.modules())
    if (auto* keeps = dynamic_cast<KeepsActivations*>(module.get()); keeps != nullptr) keeps->kept = type;
}

LayerNormImpl::LayerNormImpl(int64_t width, double eps) : eps_(eps) {
  weight = register_parameter("weight", torch::zeros({width}));
  bias = register_parameter("bias", torch::zeros({width}));
}

Tensor LayerNormImpl::forward(const Tensor& x, Tensor* skip) {
  Tensor y = layer_norm(x, {weight, bias, eps_}, skip, kept);
  report_call(*this, "", x, {}, y);
  return y;
}

}  // namespace tempo::nn
