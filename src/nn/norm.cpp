#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "nn/kept.h"
#include "nn/kernels/norm_act.h"
#include "nn/layers.h"
#include "nn/probe.h"
#include "nn/row_pieces.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

constexpr double kMomentum = 0.1;

using kernels::best_norm_act_kernels;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

bool is_rows_of_channels(const Tensor& x) {
  return x.dim() == 4 && x.device().is_cpu() && x.scalar_type() == torch::kFloat32 &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast) && x.numel() > 0;
}

/// What the kernels can do: all that the models here have in training. The rest is left to LibTorch.
bool is_fusible(const Tensor& x, const Tensor& residual) {
  return is_rows_of_channels(x) &&
         (!residual.defined() || (residual.sizes() == x.sizes() && residual.scalar_type() == x.scalar_type()));
}

Tensor dense(const Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

/// Of row `row`; nullptr of nothing.
uint8_t* bits_of(const Tensor& active, int64_t row) {
  return active.defined() ? active.data_ptr<uint8_t>() + row * active.size(1) : nullptr;
}

struct Statistics {
  std::vector<float> mean, inverse_deviation;
};

Statistics running_statistics(const Tensor& mean, const Tensor& variance, double eps) {
  Statistics s;
  for (int64_t c = 0; c < mean.numel(); ++c) {
    s.mean.push_back(mean.data_ptr<float>()[c]);
    s.inverse_deviation.push_back(
        static_cast<float>(1 / std::sqrt(static_cast<double>(variance.data_ptr<float>()[c]) + eps)));
  }
  return s;
}

/// Of a batch; running statistics move towards it.
Statistics batch_statistics(const Tensor& x, Tensor& running_mean, Tensor& running_var, double eps) {
  const int64_t channels = x.size(1), rows = x.numel() / channels;
  const float* const from = x.data_ptr<float>();
  // Shifted by the first row: squares of values far from zero would cancel.
  const auto [sums, squares] =
      sum_rows<2>(rows, kernels::kSummedRows, channels, [&](int64_t first, int64_t count, const auto& sum) {
        best_norm_act_kernels().sums(from + first * channels, count, channels, from, sum[0], sum[1]);
      });
  Statistics s;
  const auto n = static_cast<double>(rows);
  for (size_t c = 0; c < sums.size(); ++c) {
    const double shifted = sums[c] / n, variance = std::max(squares[c] / n - shifted * shifted, 0.0);
    const double mean = shifted + static_cast<double>(from[c]);
    s.mean.push_back(static_cast<float>(mean));
    s.inverse_deviation.push_back(static_cast<float>(1 / std::sqrt(variance + eps)));
    const auto move = [&](Tensor& running, double value) {
      float& at = running.data_ptr<float>()[c];
      at = static_cast<float>((1 - kMomentum) * static_cast<double>(at) + kMomentum * value);
    };
    move(running_mean, mean);
    move(running_var, variance * n / (n - 1));
  }
  return s;
}

/// @param active receives where the result is above zero, as the kernels want it
Tensor apply_norm(const Tensor& x, const Tensor& residual, const Statistics& s, const Tensor& weight,
                  const Tensor& bias, bool relu, Tensor* active = nullptr, const Keeping* keeping = nullptr) {
  const int64_t channels = x.size(1), rows = x.numel() / channels;
  std::vector<float> scale(s.mean.size()), offset(s.mean.size());
  for (size_t c = 0; c < scale.size(); ++c) {
    scale[c] = weight.data_ptr<float>()[c] * s.inverse_deviation[c];
    offset[c] = bias.data_ptr<float>()[c] - s.mean[c] * scale[c];
  }
  const Tensor around = residual.defined() ? dense(residual) : Tensor();
  Tensor y = torch::empty_like(x, x.options().requires_grad(false), at::MemoryFormat::ChannelsLast);
  if (active != nullptr) *active = torch::empty({rows, best_norm_act_kernels().active_bytes(channels)}, torch::kUInt8);
  for_rows(rows, kernels::kSummedRows, [&](int64_t first, int64_t count) {
    const int64_t at = first * channels;
    best_norm_act_kernels().apply(x.data_ptr<float>() + at, around.defined() ? around.data_ptr<float>() + at : nullptr,
                                  count, channels, scale.data(), offset.data(), relu, y.data_ptr<float>() + at,
                                  active != nullptr ? bits_of(*active, first) : nullptr);
    if (keeping != nullptr) keeping->keep(x.data_ptr<float>() + at, at, count * channels);
  });
  return y;
}

/// relu(norm(x) + residual) in training: two passes forward, two backward. Ioffe and Szegedy, arXiv:1502.03167 (2015).
struct NormActFunction : torch::autograd::Function<NormActFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const c10::optional<Tensor>& residual, Tensor running_mean, Tensor running_var, bool relu,
                        double eps, torch::ScalarType kept) {
    const Statistics s = batch_statistics(x, running_mean, running_var, eps);
    const Keeping keeping(x, kept);
    Tensor active;
    Tensor y = apply_norm(x, residual.value_or(Tensor()), s, weight, bias, relu, relu ? &active : nullptr, &keeping);
    const auto saved = [](const std::vector<float>& values) { return torch::tensor(values); };
    ctx->save_for_backward({keeping.tensor(), weight, active, saved(s.mean), saved(s.inverse_deviation)});
    ctx->saved_data["residual"] = residual.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &active = saved[2];
    const float *const mean = saved[3].data_ptr<float>(), *const inverse = saved[4].data_ptr<float>();
    const Tensor dy = dense(gradients[0]);
    const int64_t channels = x.size(1), rows = x.numel() / channels;
    const auto [sums, products] =
        sum_rows<2>(rows, kernels::kSummedRows, channels, [&](int64_t first, int64_t count, const auto& sum) {
          const int64_t at = first * channels;
          best_norm_act_kernels().gradient_sums(kept_rows(x, at, count * channels), bits_of(active, first),
                                                dy.data_ptr<float>() + at, count, channels, mean, sum[0], sum[1]);
        });
    Tensor dweight = torch::empty_like(weight), dbias = torch::empty_like(weight);
    std::vector<float> scale(sums.size()), slope(sums.size()), offset(sums.size());
    const auto n = static_cast<double>(rows);
    for (size_t c = 0; c < sums.size(); ++c) {
      const double deviation = static_cast<double>(inverse[c]);
      const double factor = static_cast<double>(weight.data_ptr<float>()[c]) * deviation;
      dweight.data_ptr<float>()[c] = static_cast<float>(products[c] * deviation);
      dbias.data_ptr<float>()[c] = static_cast<float>(sums[c]);
      scale[c] = static_cast<float>(factor);
      slope[c] = static_cast<float>(-factor * deviation * deviation * products[c] / n);
      offset[c] = static_cast<float>(-factor * sums[c] / n);
    }
    Tensor dx = torch::empty_like(dy, at::MemoryFormat::ChannelsLast), dresidual;
    if (ctx->saved_data["residual"].toBool()) dresidual = torch::empty_like(dx, at::MemoryFormat::ChannelsLast);
    for_rows(rows, kernels::kSummedRows, [&](int64_t first, int64_t count) {
      const int64_t at = first * channels;
      best_norm_act_kernels().gradient(kept_rows(x, at, count * channels), bits_of(active, first),
                                       dy.data_ptr<float>() + at, count, channels, mean, scale.data(), slope.data(),
                                       offset.data(), dx.data_ptr<float>() + at,
                                       dresidual.defined() ? dresidual.data_ptr<float>() + at : nullptr);
    });
    return {dx, dweight, dbias, dresidual, {}, {}, {}, {}, {}};
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

torch::Tensor BatchNorm2dImpl::forward(const torch::Tensor& x, Activation activation, const torch::Tensor& residual) {
  if (is_training()) {
    if (x.numel() == x.size(1)) {
      throw InputError(fmt::format(
          "batch norm: got a batch of {} with {}x{} maps, expected at least two values per channel in training; "
          "use a larger batch or larger images",
          x.size(0), x.size(2), x.size(3)));
    }
    num_batches_tracked.add_(1);
  }
  const bool is_relu = activation == Activation::kRelu;
  torch::Tensor y;
  if (is_fusible(x, residual) && (is_training() || !torch::GradMode::is_enabled())) {
    y = is_training()
            ? NormActFunction::apply(x, weight, bias,
                                     residual.defined() ? c10::optional<Tensor>(residual) : c10::nullopt, running_mean,
                                     running_var, is_relu, eps_, kept)
            : apply_norm(x, residual, running_statistics(running_mean, running_var, eps_), weight, bias, is_relu);
  } else {
    // In place after the first: the gradient of batch norm reads its input and its statistics, never its output, and
    // that of relu only its own output. One map a block is kept for backward instead of three.
    y = torch::batch_norm(x, weight, bias, running_mean, running_var, is_training(), kMomentum, eps_,
                          /*cudnn_enabled=*/true);
    if (residual.defined()) y.add_(residual);
    if (is_relu) y.relu_();
  }
  report_call(*this, "", x, {}, y);
  return y;
}

}  // namespace tempo::nn
