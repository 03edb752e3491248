/// Batch norm's passes over rows of channels, and the arithmetic between them. Float32, channels last.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "nn/kernels/norm_act.h"

namespace tempo::nn {

constexpr double kNormMomentum = 0.1;

/// Whether the kernels can have it: all that the models here have in training. The rest is left to LibTorch.
bool is_rows_of_channels(const torch::Tensor& x);
inline torch::Tensor dense(const torch::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

struct NormStatistics {
  std::vector<float> mean, inverse_deviation;
};
/// Column sums of what lies above a shift, and of its squares.
struct NormMoments {
  const float* shift = nullptr;
  std::vector<double> sums, squares;

  /// Whether shifts are near enough to the means of so many rows: far off, or not finite, sums in float32 say nothing
  /// of the variance any more.
  [[nodiscard]] bool are_accurate(int64_t rows) const;
};
NormMoments moments_of(const torch::Tensor& x);
/// Of a batch of so many rows; running statistics move towards it.
NormStatistics batch_statistics(const NormMoments& moments, int64_t rows, torch::Tensor& running_mean,
                                torch::Tensor& running_var, double eps);
NormStatistics running_statistics(const torch::Tensor& mean, const torch::Tensor& variance, double eps);

/// The norm of x is x * scale + offset.
struct NormScaling {
  std::vector<float> scale, offset;
};
/// Where units were active after a norm.
struct NormActivity {
  torch::Tensor bits;   ///< of NormActKernels; or undefined
  NormScaling scaling;  ///< without bits: active is what this makes positive; empty: everything is active

  [[nodiscard]] kernels::Active of_row(int64_t row) const;
};
NormScaling scaling_of(const NormStatistics& statistics, const torch::Tensor& weight, const torch::Tensor& bias);

/// With g the gradient where the unit was active:  dx = g * scale + (x - mean) * slope + offset.
struct NormGradient {
  torch::Tensor dweight, dbias;
  std::vector<float> scale, slope, offset;
};
/// One pass over x (or what was kept of it) and dy.
NormGradient gradient_of(const torch::Tensor& x, const NormActivity& active, const torch::Tensor& dy,
                         const NormStatistics& statistics, const torch::Tensor& weight);
/// dx in a pass of its own. @param dresidual receives g, unless it is not defined
torch::Tensor input_gradient(const torch::Tensor& x, const NormActivity& active, const torch::Tensor& dy,
                             const NormStatistics& statistics, const NormGradient& gradient,
                             const torch::Tensor& dresidual = {});

}  // namespace tempo::nn
