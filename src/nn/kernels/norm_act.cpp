#include "nn/kernels/norm_act.h"

#include <algorithm>

#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/kernels/norm_act.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::nn::kernels {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using VecOf = hn::Vec<D>;

/// Two sums over rows of `kVectors` vectors of columns, from registers. `term(d, at, first, second)` adds one row's.
template <int kVectors, class D, class Term>
HWY_INLINE void sum_strip(D d, int64_t rows, int64_t channels, int64_t c, const Term& term, float* first,
                          float* second) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  VecOf<D> a[kVectors], b[kVectors];
  for (int k = 0; k < kVectors; ++k) a[k] = b[k] = hn::Zero(d);
  for (int64_t row = 0; row < rows; ++row)
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) term(d, row * channels, c + k * lanes, a[k], b[k]);
  for (int k = 0; k < kVectors; ++k) {
    hn::StoreU(a[k], d, first + c + k * lanes);
    hn::StoreU(b[k], d, second + c + k * lanes);
  }
}

template <class Term>
HWY_INLINE void sum_columns(int64_t rows, int64_t channels, const Term& term, float* first, float* second) {
  constexpr int kVectors = 4;  // neighbouring lines of memory, and few enough for the registers
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + kVectors * lanes <= channels; c += kVectors * lanes)
    sum_strip<kVectors>(d, rows, channels, c, term, first, second);
  for (; c + lanes <= channels; c += lanes) sum_strip<1>(d, rows, channels, c, term, first, second);
  for (; c < channels; ++c) sum_strip<1>(d1, rows, channels, c, term, first, second);
}

/// `element(d, at, c)` for all columns of all rows; `at` is the offset of the vector, c its column.
template <class Element>
HWY_INLINE void for_each_vector(int64_t rows, int64_t channels, const Element& element) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t start = row * channels;
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) element(d, start + c, c);
    for (; c < channels; ++c) element(d1, start + c, c);
  }
}

/// dy where the unit was active.
template <class D>
HWY_INLINE VecOf<D> passed(D d, const float* y, const float* dy, int64_t at) {
  const auto gradient = hn::LoadU(d, dy + at);
  return y == nullptr ? gradient : hn::IfThenElseZero(hn::Gt(hn::LoadU(d, y + at), hn::Zero(d)), gradient);
}

void sums(const float* x, int64_t rows, int64_t channels, const float* shift, float* sum, float* squares) noexcept {
  const auto term = [=](auto d, int64_t start, int64_t c, auto& a, auto& b) HWY_ATTR {
    const auto v = hn::Sub(hn::LoadU(d, x + start + c), hn::LoadU(d, shift + c));
    a = hn::Add(a, v);
    b = hn::MulAdd(v, v, b);
  };
  sum_columns(rows, channels, term, sum, squares);
}

void apply(const float* x, const float* residual, int64_t rows, int64_t channels, const float* scale,
           const float* offset, bool relu, float* y) noexcept {
  for_each_vector(rows, channels, [=](auto d, int64_t at, int64_t c) HWY_ATTR {
    auto v = hn::MulAdd(hn::LoadU(d, x + at), hn::LoadU(d, scale + c), hn::LoadU(d, offset + c));
    if (residual != nullptr) v = hn::Add(v, hn::LoadU(d, residual + at));
    // Not Max: what is not a number must stay so, or a loss that is not finite would go unseen.
    if (relu) v = hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v);
    hn::StoreU(v, d, y + at);
  });
}

void gradient_sums(const float* x, const float* y, const float* dy, int64_t rows, int64_t channels, const float* mean,
                   float* sum, float* products) noexcept {
  const auto term = [=](auto d, int64_t start, int64_t c, auto& a, auto& b) HWY_ATTR {
    const auto g = passed(d, y, dy, start + c);
    a = hn::Add(a, g);
    b = hn::MulAdd(g, hn::Sub(hn::LoadU(d, x + start + c), hn::LoadU(d, mean + c)), b);
  };
  sum_columns(rows, channels, term, sum, products);
}

void gradient(const float* x, const float* y, const float* dy, int64_t rows, int64_t channels, const float* mean,
              const float* scale, const float* slope, const float* offset, float* dx, float* dresidual) noexcept {
  for_each_vector(rows, channels, [=](auto d, int64_t at, int64_t c) HWY_ATTR {
    const auto g = passed(d, y, dy, at);
    if (dresidual != nullptr) hn::StoreU(g, d, dresidual + at);
    const auto centred = hn::Sub(hn::LoadU(d, x + at), hn::LoadU(d, mean + c));
    const auto part = hn::MulAdd(centred, hn::LoadU(d, slope + c), hn::LoadU(d, offset + c));
    hn::StoreU(hn::MulAdd(g, hn::LoadU(d, scale + c), part), d, dx + at);
  });
}

const NormActKernels* kernel_set() {
  static constexpr NormActKernels kSet = {sums, apply, gradient_sums, gradient};
  return &kSet;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tempo::nn::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tempo::nn::kernels {
namespace {

void plain_sums(const float* x, int64_t rows, int64_t channels, const float* shift, float* sum,
                float* squares) noexcept {
  std::fill(sum, sum + channels, 0.0f);
  std::fill(squares, squares + channels, 0.0f);
  for (int64_t i = 0; i < rows * channels; ++i) {
    const int64_t c = i % channels;
    const float v = x[i] - shift[c];
    sum[c] += v;
    squares[c] += v * v;
  }
}

void plain_apply(const float* x, const float* residual, int64_t rows, int64_t channels, const float* scale,
                 const float* offset, bool relu, float* y) noexcept {
  for (int64_t i = 0; i < rows * channels; ++i) {
    const float v = x[i] * scale[i % channels] + offset[i % channels] + (residual != nullptr ? residual[i] : 0);
    y[i] = relu && v < 0 ? 0 : v;
  }
}

void plain_gradient_sums(const float* x, const float* y, const float* dy, int64_t rows, int64_t channels,
                         const float* mean, float* sum, float* products) noexcept {
  std::fill(sum, sum + channels, 0.0f);
  std::fill(products, products + channels, 0.0f);
  for (int64_t i = 0; i < rows * channels; ++i) {
    const int64_t c = i % channels;
    const float g = y == nullptr || y[i] > 0 ? dy[i] : 0;
    sum[c] += g;
    products[c] += g * (x[i] - mean[c]);
  }
}

void plain_gradient(const float* x, const float* y, const float* dy, int64_t rows, int64_t channels, const float* mean,
                    const float* scale, const float* slope, const float* offset, float* dx, float* dresidual) noexcept {
  for (int64_t i = 0; i < rows * channels; ++i) {
    const int64_t c = i % channels;
    const float g = y == nullptr || y[i] > 0 ? dy[i] : 0;
    if (dresidual != nullptr) dresidual[i] = g;
    dx[i] = g * scale[c] + (x[i] - mean[c]) * slope[c] + offset[c];
  }
}

}  // namespace

HWY_EXPORT(kernel_set);

const NormActKernels& reference_norm_act_kernels() {
  static constexpr NormActKernels kSet = {plain_sums, plain_apply, plain_gradient_sums, plain_gradient};
  return kSet;
}

const NormActKernels& norm_act_kernels(int64_t target) {
  if (target == 0) return reference_norm_act_kernels();
  return *HWY_DISPATCH_TABLE(kernel_set)[dispatch_index(target)]();
}

const NormActKernels& best_norm_act_kernels() {
  static const NormActKernels& best = *HWY_DYNAMIC_DISPATCH(kernel_set)();
  return best;
}

}  // namespace tempo::nn::kernels
#endif  // HWY_ONCE
