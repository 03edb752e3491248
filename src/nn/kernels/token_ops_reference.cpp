// The reference kernels of token_ops.h: plain loops, with sums and special functions in float64.
#include <algorithm>
#include <cmath>
#include <vector>

#include "nn/kernels/token_ops.h"

namespace tempo::nn::kernels {
namespace {

double value_or_zero(const float* from, int64_t c) { return from == nullptr ? 0.0 : static_cast<double>(from[c]); }
double phi(double v) { return 0.5 * std::erfc(-v / std::sqrt(2.0)); }
double density(double v) { return std::exp(-v * v / 2) / std::sqrt(2 * M_PI); }

void add(const TokenRows& in, const float* bias, const float* residual, float* y) noexcept {
  const auto [x, rows, width] = in;
  for (int64_t i = 0; i < rows * width; ++i)
    y[i] = x[i] + (bias == nullptr ? 0 : bias[i % width]) + (residual == nullptr ? 0 : residual[i]);
}

void column_sums(const float* x, int64_t rows, int64_t width, float* sum) noexcept {
  for (int64_t c = 0; c < width; ++c) {
    double total = 0;
    for (int64_t row = 0; row < rows; ++row) total += static_cast<double>(x[row * width + c]);
    sum[c] = static_cast<float>(total);
  }
}

void layer_norm(const TokenRows& in, const LayerNormMap& map, float* y, float* mean, float* inverse) noexcept {
  auto [x, rows, width] = in;
  const auto [weight, bias, eps] = map;
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    double sum = 0, squares = 0;
    for (int64_t c = 0; c < width; ++c) sum += static_cast<double>(x[c]);
    const double centre = sum / static_cast<double>(width);
    for (int64_t c = 0; c < width; ++c) squares += std::pow(static_cast<double>(x[c]) - centre, 2);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(eps));
    for (int64_t c = 0; c < width; ++c)
      y[c] = static_cast<float>((static_cast<double>(x[c]) - centre) * scale) * weight[c] + bias[c];
    mean[row] = static_cast<float>(centre);
    inverse[row] = static_cast<float>(scale);
  }
}

void layer_norm_gradient(const TokenRows& in, const LayerNormKept& kept, const float* addend,
                         const LayerNormGradients& to) noexcept {
  const float *dy = in.from, *x = kept.x;
  const float *const weight = kept.weight, *const mean = kept.mean, *const inverse = kept.inverse;
  float *dx = to.dx, *const dweight = to.dweight, *const dbias = to.dbias;
  const int64_t rows = in.rows, width = in.width;
  std::fill(dweight, dweight + width, 0.0f);
  std::fill(dbias, dbias + width, 0.0f);
  for (int64_t row = 0; row < rows; ++row, x += width, dy += width, dx += width) {
    const auto normalised = [&](int64_t c) { return static_cast<double>((x[c] - mean[row]) * inverse[row]); };
    const auto weighted = [&](int64_t c) { return static_cast<double>(dy[c] * weight[c]); };
    double level = 0, slope = 0;
    for (int64_t c = 0; c < width; ++c) {
      level += weighted(c);
      slope += weighted(c) * normalised(c);
      dweight[c] += static_cast<float>(static_cast<double>(dy[c]) * normalised(c));
      dbias[c] += dy[c];
    }
    for (int64_t c = 0; c < width; ++c)
      dx[c] = static_cast<float>(static_cast<double>(inverse[row]) *
                                     (weighted(c) - (level + normalised(c) * slope) / static_cast<double>(width)) +
                                 value_or_zero(addend, row * width + c));
  }
}

void gelu(const TokenRows& in, const float* bias, float* y, float* slope) noexcept {
  const auto [x, rows, width] = in;
  for (int64_t i = 0; i < rows * width; ++i) {
    const double v = static_cast<double>(x[i]) + value_or_zero(bias, i % width);
    y[i] = static_cast<float>(v * phi(v));
    if (slope != nullptr) slope[i] = static_cast<float>(phi(v) + v * density(v));
  }
}

void gelu_gradient(const TokenRows& in, const float* slope, float* dx, float* dbias) noexcept {
  const auto [dy, rows, width] = in;
  for (int64_t i = 0; i < rows * width; ++i) dx[i] = dy[i] * slope[i];
  column_sums(dx, rows, width, dbias);
}

void softmax(const float* x, float scale, int64_t rows, int64_t width, float* y) noexcept {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const float largest = *std::max_element(x, x + width);
    const auto power = [&](float v) { return std::exp(static_cast<double>((v - largest) * scale)); };
    double sum = 0;
    for (int64_t c = 0; c < width; ++c) sum += power(x[c]);
    for (int64_t c = 0; c < width; ++c) y[c] = static_cast<float>(power(x[c]) / sum);
  }
}

void softmax_gradient(const TokenRows& in, const float* y, float scale, float* dx) noexcept {
  auto [dy, rows, width] = in;
  for (int64_t row = 0; row < rows; ++row, y += width, dy += width, dx += width) {
    double sum = 0;
    for (int64_t c = 0; c < width; ++c) sum += static_cast<double>(y[c]) * static_cast<double>(dy[c]);
    for (int64_t c = 0; c < width; ++c)
      dx[c] = static_cast<float>(static_cast<double>(scale * y[c]) * (static_cast<double>(dy[c]) - sum));
  }
}

}  // namespace

const TokenKernels& reference_token_kernels() {
  static constexpr TokenKernels kSet = {add,  column_sums,   layer_norm, layer_norm_gradient,
                                        gelu, gelu_gradient, softmax,    softmax_gradient};
  return kSet;
}

}  // namespace tempo::nn::kernels
