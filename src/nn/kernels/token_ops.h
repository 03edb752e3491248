/// The passes of a transformer that are not products: bias, residual, layer norm, GELU, softmax, heads. Rows are
/// tokens, columns features: [rows, width], float32, contiguous. Pointers and sizes only: no allocation, no checks, no
/// threads; a caller gives each thread rows of its own. Plain loops for reference, one table per instruction set.
#pragma once

#include <cstdint>

namespace tempo::nn::kernels {

/// Column sums run in float32 over at most so many rows; the caller adds them up in float64.
constexpr int64_t kTokenRows = 128;

struct TokenKernels {
  /// y = x + bias (+ residual).  @param bias, residual or nullptr; y may be x
  void (*add)(const float* x, const float* bias, const float* residual, int64_t rows, int64_t width, float* y) noexcept;
  /// sum[c] = sum of x[:, c] over `rows` <= kTokenRows.
  void (*column_sums)(const float* x, int64_t rows, int64_t width, float* sum) noexcept;

  /// y = (x - mean) / deviation * weight + bias;  mean[row] and inverse[row] = 1 / deviation are kept for the gradient.
  void (*layer_norm)(const float* x, int64_t rows, int64_t width, const float* weight, const float* bias, float eps,
                     float* y, float* mean, float* inverse) noexcept;
  /// dx (+ addend), and dweight[c], dbias[c] over `rows` <= kTokenRows. @param addend or nullptr
  void (*layer_norm_gradient)(const float* x, const float* dy, int64_t rows, int64_t width, const float* weight,
                              const float* mean, const float* inverse, const float* addend, float* dx, float* dweight,
                              float* dbias) noexcept;

  /// y = v * Phi(v), v = x + bias: the exact GELU (Hendrycks and Gimpel, arXiv:1606.08415), Phi within 1e-7.
  /// @param bias or nullptr, @param y may be x, @param slope receives Phi(v) + v phi(v), the derivative; or nullptr
  void (*gelu)(const float* x, const float* bias, int64_t rows, int64_t width, float* y, float* slope) noexcept;
  /// dx = dy * slope, and dbias[c] = sum of dx[:, c] over `rows` <= kTokenRows.
  void (*gelu_gradient)(const float* slope, const float* dy, int64_t rows, int64_t width, float* dx,
                        float* dbias) noexcept;

  /// y = softmax(x * scale), row by row, scale > 0; y may be x.
  void (*softmax)(const float* x, float scale, int64_t rows, int64_t width, float* y) noexcept;
  /// dx = scale * y * (dy - sum of dy * y); dx may be dy.
  void (*softmax_gradient)(const float* y, const float* dy, float scale, int64_t rows, int64_t width,
                           float* dx) noexcept;
};

const TokenKernels& reference_token_kernels();
/// Of one Highway target that this machine supports; 0 is the reference.
const TokenKernels& token_kernels(int64_t target);
/// The best of this machine.
const TokenKernels& best_token_kernels();

}  // namespace tempo::nn::kernels
