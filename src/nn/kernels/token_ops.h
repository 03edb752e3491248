/// The passes of a transformer that are not products: bias, residual, layer norm, GELU, softmax, heads. Rows are tokens
/// and columns are features: [rows, width], float32, contiguous. The kernels take pointers and sizes, and neither
/// allocate, check nor start threads; a caller gives each thread its own rows. There is one table for each instruction
/// set, and plain loops for reference.
#pragma once

#include <cstdint>

namespace tempo::nn::kernels {

/// Column sums are float32 over at most this many rows; the caller adds them in float64.
constexpr int64_t kTokenRows = 128;

struct TokenKernels {
  /// y = x + bias (+ residual).  @param bias, residual may be nullptr. @param y may be x.
  void (*add)(const float* x, const float* bias, const float* residual, int64_t rows, int64_t width, float* y) noexcept;
  /// sum[c] = sum of x[:, c] over `rows` <= kTokenRows.
  void (*column_sums)(const float* x, int64_t rows, int64_t width, float* sum) noexcept;

  /// y = (x - mean) / deviation * weight + bias, with deviation = sqrt(variance + eps) of the row. mean[row] and
  /// inverse[row] = 1 / deviation are returned for the gradient.
  void (*layer_norm)(const float* x, int64_t rows, int64_t width, const float* weight, const float* bias, float eps,
                     float* y, float* mean, float* inverse) noexcept;
  /// Computes dx (+ addend), and dweight[c] and dbias[c] over `rows` <= kTokenRows. @param addend may be nullptr.
  void (*layer_norm_gradient)(const float* x, const float* dy, int64_t rows, int64_t width, const float* weight,
                              const float* mean, const float* inverse, const float* addend, float* dx, float* dweight,
                              float* dbias) noexcept;

  /// y = v * Phi(v), v = x + bias: the exact GELU (Hendrycks and Gimpel, arXiv:1606.08415), Phi within 1e-7.
  /// @param bias may be nullptr. @param y may be x. @param slope receives the derivative, Phi(v) + v phi(v), unless
  /// nullptr.
  void (*gelu)(const float* x, const float* bias, int64_t rows, int64_t width, float* y, float* slope) noexcept;
  /// dx = dy * slope, and dbias[c] = sum of dx[:, c] over `rows` <= kTokenRows.
  void (*gelu_gradient)(const float* slope, const float* dy, int64_t rows, int64_t width, float* dx,
                        float* dbias) noexcept;

  /// y = softmax(x * scale) of each row, with scale > 0. y may be x.
  void (*softmax)(const float* x, float scale, int64_t rows, int64_t width, float* y) noexcept;
  /// dx = scale * y * (dy - sum of dy * y), the sum over the row. dx may be dy.
  void (*softmax_gradient)(const float* y, const float* dy, float scale, int64_t rows, int64_t width,
                           float* dx) noexcept;
};

const TokenKernels& reference_token_kernels();
/// The table of one Highway target that this machine supports; 0 is the reference.
const TokenKernels& token_kernels(int64_t target);
/// The table of the best instruction set of this machine.
const TokenKernels& best_token_kernels();

}  // namespace tempo::nn::kernels
