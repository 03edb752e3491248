#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <memory>
#include <utility>
#include <vector>

#include "nn/batch_norm.h"
#include "nn/deferred_norm.h"
#include "nn/kept.h"
#include "nn/kernels/norm_act.h"
#include "nn/layers.h"
#include "nn/probe.h"
#include "nn/row_pieces.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

using kernels::best_norm_act_kernels;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool is_fusible(const Tensor& x, const Tensor& residual) {
  return is_rows_of_channels(x) &&
         (!residual.defined() || (residual.sizes() == x.sizes() && residual.scalar_type() == x.scalar_type()));
}

/// @param active receives which units of the result are above zero, in the layout of the kernels.
Tensor apply_norm(const Tensor& x, const Tensor& residual, const NormScaling& scaling, bool relu,
                  Tensor* active = nullptr, const Keeping* keeping = nullptr) {
  const int64_t channels = x.size(1), rows = x.numel() / channels;
  const Tensor around = residual.defined() ? dense(residual) : Tensor();
  Tensor y = torch::empty_like(x, x.options().requires_grad(false), at::MemoryFormat::ChannelsLast);
  if (active != nullptr) *active = torch::empty({rows, best_norm_act_kernels().active_bytes(channels)}, torch::kUInt8);
  for_rows(rows, kernels::kSummedRows, [&](int64_t first, int64_t count) {
    const int64_t at = first * channels;
    best_norm_act_kernels().apply({x.data_ptr<float>() + at, count, channels},
                                  around.defined() ? around.data_ptr<float>() + at : nullptr,
                                  {scaling.scale.data(), scaling.offset.data(), relu}, y.data_ptr<float>() + at,
                                  active != nullptr ? active->data_ptr<uint8_t>() + first * active->size(1) : nullptr);
    if (keeping != nullptr) keeping->keep(x.data_ptr<float>() + at, at, count * channels);
  });
  return y;
}

/// Statistics of a batch of rows of channels, from moments computed already if they are accurate, else in a pass.
NormStatistics statistics_of(const Tensor& x, const ResultMoments* taken, Tensor& running_mean, Tensor& running_var,
                             double eps) {
  const bool is_taken = taken != nullptr && !taken->sums.empty();
  NormMoments moments = is_taken ? NormMoments{taken->shift.data(), taken->sums, taken->squares} : NormMoments();
  if (!is_taken || !moments.are_accurate(x.numel() / x.size(1))) moments = moments_of(x);
  return batch_statistics(moments, x.numel() / x.size(1), running_mean, running_var, eps);
}

/// activation(norm(x) + residual) in training: two passes forward, or one if the moments are given; two backward. Ioffe
/// and Szegedy, arXiv:1502.03167 (2015).
struct NormActFunction : torch::autograd::Function<NormActFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const c10::optional<Tensor>& residual, Tensor running_mean, Tensor running_var, bool relu,
                        double eps, torch::ScalarType kept, const std::shared_ptr<ResultMoments>& moments) {
    const NormStatistics s = statistics_of(x, moments.get(), running_mean, running_var, eps);
    const Keeping keeping(x, kept);
    const NormScaling scaling = scaling_of(s, weight, bias);
    const bool keeps_bits = relu && (residual.has_value() || kept != torch::kFloat32);
    Tensor bits;
    Tensor y = apply_norm(x, residual.value_or(Tensor()), scaling, relu, keeps_bits ? &bits : nullptr, &keeping);
    const auto saved = [](const std::vector<float>& values) { return torch::tensor(values); };
    ctx->save_for_backward({keeping.tensor(), weight, bias, bits, saved(s.mean), saved(s.inverse_deviation)});
    ctx->saved_data["relu_without_bits"] = relu && !keeps_bits;
    ctx->saved_data["residual"] = residual.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    const auto loaded = [](const Tensor& values) {
      return std::vector<float>(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    };
    const NormStatistics s{loaded(saved[4]), loaded(saved[5])};
    // Without bits, which units were active is computed from x again, which is read anyway.
    const bool follows = ctx->saved_data["relu_without_bits"].toBool();
    const NormActivity active{saved[3], follows ? scaling_of(s, weight, bias) : NormScaling()};
    const bool has_residual = ctx->saved_data["residual"].toBool();
    const Tensor dy = dense(gradients[0]);
    const NormBackward pass{x, active, dy, s};
    const NormGradient of = gradient_of(pass, weight);
    const Tensor dresidual = has_residual ? torch::empty_like(dy) : Tensor();
    const Tensor dx = input_gradient(pass, of, dresidual);
    return {dx, of.dweight, of.dbias, dresidual, {}, {}, {}, {}, {}, {}};
  }
};

}  // namespace

BatchNorm2dImpl::BatchNorm2dImpl(int64_t channels, double eps) : eps_(eps) {
  weight = register_parameter("weight", torch::zeros({channels}));
  bias = register_parameter("bias", torch::zeros({channels}));
  running_mean = register_buffer("running_mean", torch::zeros({channels}));
  running_var = register_buffer("running_var", torch::ones({channels}));
  num_batches_tracked = register_buffer("num_batches_tracked", torch::zeros({}, torch::kInt64));
}

void BatchNorm2dImpl::begin_batch(const Tensor& x) {
  if (x.numel() == x.size(1)) {
    throw InputError(fmt::format(
        "batch norm: got a batch of {} with {}x{} maps, expected at least two values per channel in training; "
        "use a larger batch or larger images",
        x.size(0), x.size(2), x.size(3)));
  }
  num_batches_tracked.add_(1);
}

Tensor BatchNorm2dImpl::forward(const Tensor& x, Activation activation, const Tensor& residual,
                                const std::shared_ptr<ResultMoments>& moments) {
  if (is_training()) begin_batch(x);
  const bool is_relu = activation == Activation::kRelu;
  Tensor y;
  if (is_fusible(x, residual) && is_training()) {
    y = NormActFunction::apply(x, weight, bias, residual.defined() ? c10::optional<Tensor>(residual) : c10::nullopt,
                               running_mean, running_var, is_relu, eps_, kept, moments);
  } else if (is_fusible(x, residual) && !torch::GradMode::is_enabled()) {
    y = apply_norm(x, residual, scaling_of(running_statistics(running_mean, running_var, eps_), weight, bias), is_relu);
  } else {
    // All operations after the first are in place: the gradient of batch norm reads its input and its statistics but
    // not its output, and that of relu only its own output. So a block keeps one map for backward instead of three.
    y = torch::batch_norm(x, weight, bias, running_mean, running_var, is_training(), kNormMomentum, eps_,
                          /*cudnn_enabled=*/true);
    if (residual.defined()) y.add_(residual);
    if (is_relu) y.relu_();
  }
  report_call(*this, "", x, {}, y);
  return y;
}

bool BatchNorm2dImpl::can_defer(const Tensor& x) const {
  return is_training() && kept == torch::kFloat32 && is_rows_of_channels(x);
}

std::shared_ptr<DeferredNorm> BatchNorm2dImpl::defer(const Tensor& x, Activation activation,
                                                     const std::shared_ptr<ResultMoments>& moments) {
  begin_batch(x);
  return std::make_shared<DeferredNorm>(x, weight, bias,
                                        statistics_of(x, moments.get(), running_mean, running_var, eps_),
                                        activation == Activation::kRelu);
}

}  // namespace tempo::nn
