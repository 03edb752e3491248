/// Batch norm's passes over rows of channels, and the arithmetic between them. Float32, channels last. Source: Ioffe
/// and Szegedy, arXiv:1502.03167 (2015).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "nn/kernels/norm_act.h"

namespace tempo::nn {

constexpr double kNormMomentum = 0.1;

/// Whether the kernels can process `x`: a non-empty float32 tensor of four dimensions on the CPU, in channels-last
/// memory. LibTorch processes all others.
bool is_rows_of_channels(const torch::Tensor& x);
inline torch::Tensor dense(const torch::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

struct NormStatistics {
  std::vector<float> mean, inverse_deviation;
};
/// Column sums of (x - shift) and of its square.
struct NormMoments {
  const float* shift = nullptr;
  std::vector<double> sums, squares;

  /// Whether the shifts are near enough to the means of `rows` rows. If they are far off, or a sum is not finite, the
  /// float32 sums say nothing about the variance any more.
  [[nodiscard]] bool are_accurate(int64_t rows) const;
};
NormMoments moments_of(const torch::Tensor& x);
/// Mean and deviation of a batch of `rows` rows. Moves the running statistics towards them.
NormStatistics batch_statistics(const NormMoments& moments, int64_t rows, torch::Tensor& running_mean,
                                torch::Tensor& running_var, double eps);
NormStatistics running_statistics(const torch::Tensor& mean, const torch::Tensor& variance, double eps);

/// The factors with which the norm of x is x * scale + offset.
struct NormScaling {
  std::vector<float> scale, offset;
};
/// Says which units were active after a norm and ReLU.
struct NormActivity {
  torch::Tensor bits;   ///< one bit a unit, as NormActKernels lays them out; or undefined
  NormScaling scaling;  ///< used without bits: a unit is active if this makes it positive; empty: all are active

  [[nodiscard]] kernels::Active of_row(int64_t row) const;
};
NormScaling scaling_of(const NormStatistics& statistics, const torch::Tensor& weight, const torch::Tensor& bias);

/// What the gradient of a norm is computed of.
struct NormBackward {
  const torch::Tensor& x;  ///< the norm's input, or what was kept of it
  const NormActivity& active;
  const torch::Tensor& dy;  ///< gradient of the result
  const NormStatistics& statistics;
};
/// The gradient of a norm. With g = dy if the unit was active, else 0:  dx = g * scale + (x - mean) * slope + offset.
struct NormGradient {
  torch::Tensor dweight, dbias;
  std::vector<float> scale, slope, offset;
};
/// Computes the gradient of a norm, except dx, in one pass over x and dy.
NormGradient gradient_of(const NormBackward& pass, const torch::Tensor& weight);
/// Computes dx in one pass. @param dresidual receives g, unless undefined.
torch::Tensor input_gradient(const NormBackward& pass, const NormGradient& gradient,
                             const torch::Tensor& dresidual = {});

}  // namespace tempo::nn
