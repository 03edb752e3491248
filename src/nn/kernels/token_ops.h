/// The passes of a transformer that are not products: bias, residual, layer norm, GELU, softmax, heads. Rows are tokens
/// and columns are features: [rows, width], float32, contiguous. The kernels take pointers and sizes, and neither
/// allocate, check nor start threads; a caller gives each thread its own rows. There is one table for each instruction
/// set, and plain loops for reference.
#pragma once

#include <cstdint>

namespace tempo::nn::kernels {

/// Column sums are float32 over at most this many rows; the caller adds them in float64.
constexpr int64_t kTokenRows = 128;

/// What a pass reads, row by row: x, or dy in the backward direction.
struct TokenRows {
  const float* from = nullptr;  ///< [rows, width]
  int64_t rows = 0, width = 0;
};
/// What layer_norm applies to a row.
struct LayerNormMap {
  const float* weight = nullptr;  ///< [width]
  const float* bias = nullptr;    ///< [width]
  float eps = 0;                  ///< added to the variance
};
/// What the backward pass of a layer norm reads besides dy.
struct LayerNormKept {
  const float* x = nullptr;        ///< [rows, width]
  const float* weight = nullptr;   ///< [width]
  const float* mean = nullptr;     ///< [rows], as layer_norm returned it
  const float* inverse = nullptr;  ///< [rows], as layer_norm returned it
};
/// What the backward pass of a layer norm writes.
struct LayerNormGradients {
  float* dx = nullptr;       ///< [rows, width]
  float* dweight = nullptr;  ///< [width], sums over the rows
  float* dbias = nullptr;    ///< [width], sums over the rows
};

struct TokenKernels {
  /// y = x + bias (+ residual).  @param bias, residual may be nullptr. @param y may be x.
  void (*add)(const TokenRows& x, const float* bias, const float* residual, float* y) noexcept;
  /// sum[c] = sum of x[:, c] over `rows` <= kTokenRows.
  void (*column_sums)(const float* x, int64_t rows, int64_t width, float* sum) noexcept;

  /// y = (x - mean) / deviation * weight + bias, with deviation = sqrt(variance + eps) of the row. mean[row] and
  /// inverse[row] = 1 / deviation are returned for the gradient.
  void (*layer_norm)(const TokenRows& x, const LayerNormMap& map, float* y, float* mean, float* inverse) noexcept;
  /// Computes dx (+ addend), and dweight[c] and dbias[c] over at most kTokenRows rows. @param addend may be nullptr.
  void (*layer_norm_gradient)(const TokenRows& dy, const LayerNormKept& kept, const float* addend,
                              const LayerNormGradients& to) noexcept;

  /// y = v * Phi(v), v = x + bias: the exact GELU (Hendrycks and Gimpel, arXiv:1606.08415), Phi within 1e-7.
  /// @param bias may be nullptr. @param y may be x. @param slope receives the derivative, Phi(v) + v phi(v), unless
  /// nullptr.
  void (*gelu)(const TokenRows& x, const float* bias, float* y, float* slope) noexcept;
  /// dx = dy * slope, and dbias[c] = sum of dx[:, c] over at most kTokenRows rows.
  void (*gelu_gradient)(const TokenRows& dy, const float* slope, float* dx, float* dbias) noexcept;

  /// y = softmax(x * scale) of each row, with scale > 0. y may be x.
  void (*softmax)(const float* x, float scale, int64_t rows, int64_t width, float* y) noexcept;
  /// dx = scale * y * (dy - sum of dy * y), the sum over the row. dx may be dy.
  void (*softmax_gradient)(const TokenRows& dy, const float* y, float scale, float* dx) noexcept;
};

const TokenKernels& reference_token_kernels();
/// The table of one Highway target that this machine supports; 0 is the reference.
const TokenKernels& token_kernels(int64_t target);
/// The table of the best instruction set of this machine.
const TokenKernels& best_token_kernels();

}  // namespace tempo::nn::kernels
