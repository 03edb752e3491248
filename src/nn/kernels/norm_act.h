/// The passes over an activation that batch norm, a residual and ReLU take together: one to sum and one to apply, each
/// way. Rows are pixels, columns channels: [rows, channels], float32, contiguous. Pointers and sizes only: no
/// allocation, no checks, no threads; a caller gives each thread rows of its own. Plain loops for reference, one table
/// per instruction set.
#pragma once

#include <cstdint>

namespace tempo::nn::kernels {

/// Sums run in float32 over at most so many rows; the caller adds them up in float64.
constexpr int64_t kSummedRows = 256;

/// Where units were active: everywhere; or where bits say so that `apply` made; or where x * scale[c] + offset[c] > 0,
/// which says the same without reading anything else, unless there was a residual.
struct Active {
  const uint8_t* bits = nullptr;
  const float* scale = nullptr;
  const float* offset = nullptr;
};

struct NormActKernels {
  /// sum[c] = sum of x - shift[c],  squares[c] = sum of (x - shift[c])^2, over `rows` <= kSummedRows.
  void (*sums)(const float* x, int64_t rows, int64_t channels, const float* shift, float* sum, float* squares) noexcept;
  /// y = x * scale[c] + offset[c] (+ residual), and zero where that is negative if `relu`.
  /// @param residual or nullptr, @param active receives where y > 0, a bit each; or nullptr
  void (*apply)(const float* x, const float* residual, int64_t rows, int64_t channels, const float* scale,
                const float* offset, bool relu, float* y, uint8_t* active) noexcept;
  /// With g = dy where the unit was active:  sum[c] = sum of g,
  /// products[c] = sum of g (x - mean[c]), over `rows` <= kSummedRows.
  void (*gradient_sums)(const float* x, const Active& active, const float* dy, int64_t rows, int64_t channels,
                        const float* mean, float* sum, float* products) noexcept;
  /// dx = g * scale[c] + (x - mean[c]) * slope[c] + offset[c];  dresidual = g unless it is nullptr.
  void (*gradient)(const float* x, const Active& active, const float* dy, int64_t rows, int64_t channels,
                   const float* mean, const float* scale, const float* slope, const float* offset, float* dx,
                   float* dresidual) noexcept;
  /// Bytes that the bits of a row take. Their order is the table's own.
  int64_t (*active_bytes)(int64_t channels) noexcept;
};

const NormActKernels& reference_norm_act_kernels();
/// Of one Highway target that this machine supports; 0 is the reference.
const NormActKernels& norm_act_kernels(int64_t target);
/// The best of this machine.
const NormActKernels& best_norm_act_kernels();

}  // namespace tempo::nn::kernels
