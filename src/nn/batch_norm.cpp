#include "nn/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "nn/kept.h"
#include "nn/row_pieces.h"

namespace tempo::nn {

using kernels::best_norm_act_kernels;
using torch::Tensor;

namespace {

/// What a backward pass reads of rows [first, first + count).
kernels::NormGradientRows gradient_rows(const NormBackward& pass, int64_t first, int64_t count) {
  const int64_t channels = pass.x.size(1), at = first * channels;
  return {kept_rows(pass.x, at, count * channels), pass.active.of_row(first), pass.dy.data_ptr<float>() + at, count,
          channels};
}

}  // namespace

bool is_rows_of_channels(const Tensor& x) {
  return x.dim() == 4 && x.device().is_cpu() && x.scalar_type() == torch::kFloat32 &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast) && x.numel() > 0;
}

kernels::Active NormActivity::of_row(int64_t row) const {
  if (bits.defined()) return {.bits = bits.data_ptr<uint8_t>() + row * bits.size(1)};
  if (scaling.scale.empty()) return {};
  return {.scale = scaling.scale.data(), .offset = scaling.offset.data()};
}

bool NormMoments::are_accurate(int64_t rows) const {
  constexpr double kFarthest = 1000;  // limit of the squared mean, in variances; four digits of the variance are left
  for (size_t c = 0; c < sums.size(); ++c) {
    const double square = std::pow(sums[c] / static_cast<double>(rows), 2);
    // Also false if a sum is not finite.
    if (!(square <= kFarthest * (squares[c] / static_cast<double>(rows) - square))) return false;
  }
  return true;
}

NormMoments moments_of(const Tensor& x) {
  const int64_t channels = x.size(1), rows = x.numel() / channels;
  const float* const from = x.data_ptr<float>();
  // The shift is the first row: squares of values far from zero would cancel.
  auto [sums, squares] =
      sum_rows<2>(rows, kernels::kSummedRows, channels, [&](int64_t first, int64_t count, const auto& sum) {
        best_norm_act_kernels().sums({from + first * channels, count, channels}, from, sum[0], sum[1]);
      });
  return {from, std::move(sums), std::move(squares)};
}

NormStatistics batch_statistics(const NormMoments& moments, int64_t rows, Tensor& running_mean, Tensor& running_var,
                                double eps) {
  NormStatistics s;
  const auto n = static_cast<double>(rows);
  for (size_t c = 0; c < moments.sums.size(); ++c) {
    const double shifted = moments.sums[c] / n, variance = std::max(moments.squares[c] / n - shifted * shifted, 0.0);
    const double mean = shifted + static_cast<double>(moments.shift[c]);
    s.mean.push_back(static_cast<float>(mean));
    s.inverse_deviation.push_back(static_cast<float>(1 / std::sqrt(variance + eps)));
    const auto move = [&](Tensor& running, double value) {
      float& at = running.data_ptr<float>()[c];
      at = static_cast<float>((1 - kNormMomentum) * static_cast<double>(at) + kNormMomentum * value);
    };
    move(running_mean, mean);
    move(running_var, variance * n / (n - 1));
  }
  return s;
}

NormStatistics running_statistics(const Tensor& mean, const Tensor& variance, double eps) {
  NormStatistics s;
  for (int64_t c = 0; c < mean.numel(); ++c) {
    s.mean.push_back(mean.data_ptr<float>()[c]);
    s.inverse_deviation.push_back(
        static_cast<float>(1 / std::sqrt(static_cast<double>(variance.data_ptr<float>()[c]) + eps)));
  }
  return s;
}

NormScaling scaling_of(const NormStatistics& s, const Tensor& weight, const Tensor& bias) {
  NormScaling of;
  for (size_t c = 0; c < s.mean.size(); ++c) {
    of.scale.push_back(weight.data_ptr<float>()[c] * s.inverse_deviation[c]);
    of.offset.push_back(bias.data_ptr<float>()[c] - s.mean[c] * of.scale[c]);
  }
  return of;
}

NormGradient gradient_of(const NormBackward& pass, const Tensor& weight) {
  const NormStatistics& s = pass.statistics;
  const int64_t channels = pass.x.size(1), rows = pass.x.numel() / channels;
  const auto [sums, products] =
      sum_rows<2>(rows, kernels::kSummedRows, channels, [&](int64_t first, int64_t count, const auto& sum) {
        best_norm_act_kernels().gradient_sums(gradient_rows(pass, first, count), s.mean.data(), sum[0], sum[1]);
      });
  NormGradient of{torch::empty_like(weight), torch::empty_like(weight), {}, {}, {}};
  const auto n = static_cast<double>(rows);
  for (size_t c = 0; c < sums.size(); ++c) {
    const double deviation = static_cast<double>(s.inverse_deviation[c]);
    const double factor = static_cast<double>(weight.data_ptr<float>()[c]) * deviation;
    of.dweight.data_ptr<float>()[c] = static_cast<float>(products[c] * deviation);
    of.dbias.data_ptr<float>()[c] = static_cast<float>(sums[c]);
    of.scale.push_back(static_cast<float>(factor));
    of.slope.push_back(static_cast<float>(-factor * deviation * deviation * products[c] / n));
    of.offset.push_back(static_cast<float>(-factor * sums[c] / n));
  }
  return of;
}

Tensor input_gradient(const NormBackward& pass, const NormGradient& of, const Tensor& dresidual) {
  const int64_t channels = pass.x.size(1), rows = pass.x.numel() / channels;
  const kernels::NormGradientMap map{pass.statistics.mean.data(), of.scale.data(), of.slope.data(), of.offset.data()};
  Tensor dx = torch::empty_like(pass.dy);
  for_rows(rows, kernels::kSummedRows, [&](int64_t first, int64_t count) {
    const int64_t at = first * channels;
    best_norm_act_kernels().gradient(gradient_rows(pass, first, count), map, dx.data_ptr<float>() + at,
                                     dresidual.defined() ? dresidual.data_ptr<float>() + at : nullptr);
  });
  return dx;
}

}  // namespace tempo::nn
