/// The passes of batch norm, residual and ReLU over an activation, fused: one pass to sum and one to apply, in each
/// direction. Rows are pixels and columns are channels: [rows, channels], float32, contiguous. The kernels take
/// pointers and sizes, and neither allocate, check nor start threads; a caller gives each thread its own rows. There is
/// one table for each instruction set, and plain loops for reference.
#pragma once

#include <cstdint>

namespace tempo::nn::kernels {

/// Sums are float32 over at most this many rows; the caller adds them in float64.
constexpr int64_t kSummedRows = 256;

/// Says which units were active. All members nullptr: all. With bits: those whose bit `apply` set. With scale and
/// offset: those with x * scale[c] + offset[c] > 0, which says the same if there was no residual, and reads nothing
/// more.
struct Active {
  const uint8_t* bits = nullptr;
  const float* scale = nullptr;
  const float* offset = nullptr;
};

/// What a forward pass reads, row by row.
struct NormRows {
  const float* x = nullptr;  ///< [rows, channels]
  int64_t rows = 0, channels = 0;
};
/// What a backward pass reads, row by row.
struct NormGradientRows {
  const float* x = nullptr;   ///< [rows, channels], as the forward pass read it
  Active active = {};         ///< the units of these rows
  const float* dy = nullptr;  ///< [rows, channels], the gradient of the forward pass's result
  int64_t rows = 0, channels = 0;
};

/// y = x * scale[c] + offset[c] (+ residual). With `relu`, negative results become zero, and a NaN stays a NaN.
struct NormMap {
  const float* scale = nullptr;   ///< [channels]
  const float* offset = nullptr;  ///< [channels]
  bool relu = false;
};
/// dx = g * scale[c] + (x - mean[c]) * slope[c] + offset[c], with g = dy if the unit was active, else 0.
struct NormGradientMap {
  const float* mean = nullptr;    ///< [channels]
  const float* scale = nullptr;   ///< [channels]
  const float* slope = nullptr;   ///< [channels]
  const float* offset = nullptr;  ///< [channels]
};

struct NormActKernels {
  /// sum[c] = sum of x - shift[c],  squares[c] = sum of (x - shift[c])^2, over at most kSummedRows rows.
  void (*sums)(const NormRows& in, const float* shift, float* sum, float* squares) noexcept;
  /// Computes y. @param residual may be nullptr. @param active receives the bits of y > 0, unless nullptr.
  void (*apply)(const NormRows& in, const float* residual, const NormMap& map, float* y, uint8_t* active) noexcept;
  /// With g = dy if the unit was active, else 0:  sum[c] = sum of g,
  /// products[c] = sum of g (x - mean[c]), over at most kSummedRows rows.
  void (*gradient_sums)(const NormGradientRows& in, const float* mean, float* sum, float* products) noexcept;
  /// Computes dx. @param dresidual receives g, unless nullptr.
  void (*gradient)(const NormGradientRows& in, const NormGradientMap& map, float* dx, float* dresidual) noexcept;
  /// Bytes of the bits of one row. The order of the bits is the table's own.
  int64_t (*active_bytes)(int64_t channels) noexcept;
};

const NormActKernels& reference_norm_act_kernels();
/// The table of one Highway target that this machine supports; 0 is the reference.
const NormActKernels& norm_act_kernels(int64_t target);
/// The table of the best instruction set of this machine.
const NormActKernels& best_norm_act_kernels();

}  // namespace tempo::nn::kernels
