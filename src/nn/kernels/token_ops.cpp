#include "nn/kernels/token_ops.h"

#include <algorithm>
#include <cmath>

#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/kernels/token_ops.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::nn::kernels {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using VecOf = hn::Vec<D>;

/// Calls `element(d, c)` for all columns: whole vectors, then single columns.
template <class Element>
HWY_INLINE void for_each_column(int64_t width, const Element& element) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= width; c += lanes) element(d, c);
  for (; c < width; ++c) element(hn::CappedTag<float, 1>(), c);
}

/// Sums `kSums` terms over the columns of a row. `term(d, c, sums)` adds the terms of one vector. Two sets of sums take
/// turns, so that an addition need not wait for the one before.
template <int kSums, class Term>
HWY_INLINE void sum_row(int64_t width, const Term& term, float* totals) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  VecOf<decltype(d)> even[kSums], odd[kSums];
  VecOf<decltype(d1)> rest[kSums];
  for (int k = 0; k < kSums; ++k) {
    even[k] = odd[k] = hn::Zero(d);
    rest[k] = hn::Zero(d1);
  }
  int64_t c = 0;
  for (; c + 2 * lanes <= width; c += 2 * lanes) {
    term(d, c, even);
    term(d, c + lanes, odd);
  }
  for (; c + lanes <= width; c += lanes) term(d, c, even);
  for (; c < width; ++c) term(d1, c, rest);
  for (int k = 0; k < kSums; ++k)
    totals[k] = hn::GetLane(hn::SumOfLanes(d, hn::Add(even[k], odd[k]))) + hn::GetLane(rest[k]);
}

template <class D>
HWY_INLINE VecOf<D> load_or_zero(D d, const float* from, int64_t c) {
  return from == nullptr ? hn::Zero(d) : hn::LoadU(d, from + c);
}

// Arguments are copied before a loop: for all that the compiler knows, a store could change them, which would then be
// read again each time.

void add(const TokenRows& in, const float* bias, const float* residual, float* y) noexcept {
  const float* const x = in.from;
  const int64_t rows = in.rows, width = in.width;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t start = row * width;
    for_each_column(width, [=](auto d, int64_t c) HWY_ATTR {
      auto v = hn::LoadU(d, x + start + c);
      if (bias != nullptr) v = hn::Add(v, hn::LoadU(d, bias + c));
      if (residual != nullptr) v = hn::Add(v, hn::LoadU(d, residual + start + c));
      hn::StoreU(v, d, y + start + c);
    });
  }
}

void column_sums(const float* x, int64_t rows, int64_t width, float* sum) noexcept {
  std::fill(sum, sum + width, 0.0f);
  for (int64_t row = 0; row < rows; ++row)
    for_each_column(width, [=](auto d, int64_t c) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, sum + c), hn::LoadU(d, x + row * width + c)), d, sum + c);
    });
}

void layer_norm(const TokenRows& in, const LayerNormMap& map, float* y, float* mean, float* inverse) noexcept {
  const float *x = in.from, *const weight = map.weight, *const bias = map.bias;
  const int64_t rows = in.rows, width = in.width;
  const float eps = map.eps;
  const float share = 1.0f / static_cast<float>(width);
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    float sum = 0, squares = 0;
    sum_row<1>(
        width, [=](auto d, int64_t c, auto* sums) HWY_ATTR { sums[0] = hn::Add(sums[0], hn::LoadU(d, x + c)); }, &sum);
    const float centre = sum * share;
    sum_row<1>(
        width,
        [=](auto d, int64_t c, auto* sums) HWY_ATTR {
          const auto v = hn::Sub(hn::LoadU(d, x + c), hn::Set(d, centre));
          sums[0] = hn::MulAdd(v, v, sums[0]);
        },
        &squares);
    const float scale = 1 / std::sqrt(squares * share + eps);
    for_each_column(width, [=](auto d, int64_t c) HWY_ATTR {
      const auto v = hn::Mul(hn::Sub(hn::LoadU(d, x + c), hn::Set(d, centre)), hn::Set(d, scale));
      hn::StoreU(hn::MulAdd(v, hn::LoadU(d, weight + c), hn::LoadU(d, bias + c)), d, y + c);
    });
    mean[row] = centre;
    inverse[row] = scale;
  }
}

void layer_norm_gradient(const TokenRows& in, const LayerNormKept& kept, const float* addend,
                         const LayerNormGradients& to) noexcept {
  const float *dy = in.from, *x = kept.x;
  const float *const weight = kept.weight, *const mean = kept.mean, *const inverse = kept.inverse;
  float *dx = to.dx, *const dweight = to.dweight, *const dbias = to.dbias;
  const int64_t rows = in.rows, width = in.width;
  const float share = 1.0f / static_cast<float>(width);
  std::fill(dweight, dweight + width, 0.0f);
  std::fill(dbias, dbias + width, 0.0f);
  for (int64_t row = 0; row < rows; ++row, x += width, dy += width, dx += width) {
    const float centre = mean[row], scale = inverse[row];
    // The sum of g = dy * weight, and the sum of g times the normalised row v.
    float totals[2];
    sum_row<2>(
        width,
        [=](auto d, int64_t c, auto* sums) HWY_ATTR {
          const auto v = hn::Mul(hn::Sub(hn::LoadU(d, x + c), hn::Set(d, centre)), hn::Set(d, scale));
          const auto gradient = hn::LoadU(d, dy + c);
          const auto g = hn::Mul(gradient, hn::LoadU(d, weight + c));
          sums[0] = hn::Add(sums[0], g);
          sums[1] = hn::MulAdd(g, v, sums[1]);
          hn::StoreU(hn::MulAdd(gradient, v, hn::LoadU(d, dweight + c)), d, dweight + c);
          hn::StoreU(hn::Add(gradient, hn::LoadU(d, dbias + c)), d, dbias + c);
        },
        totals);
    const float level = totals[0] * share, slope = totals[1] * share;
    for_each_column(width, [=](auto d, int64_t c) HWY_ATTR {
      const auto v = hn::Mul(hn::Sub(hn::LoadU(d, x + c), hn::Set(d, centre)), hn::Set(d, scale));
      const auto g = hn::Mul(hn::LoadU(d, dy + c), hn::LoadU(d, weight + c));
      const auto rest = hn::NegMulAdd(v, hn::Set(d, slope), hn::Sub(g, hn::Set(d, level)));
      hn::StoreU(hn::MulAdd(rest, hn::Set(d, scale), load_or_zero(d, addend, c)), d, dx + c);
    });
    if (addend != nullptr) addend += width;
  }
}

/// Returns Phi(v); `density` receives exp(-v^2 / 2). Source: Abramowitz and Stegun, Handbook of Mathematical Functions
/// (1964), 7.1.26: 1 - erf(z) is exp(-z^2) times a polynomial in 1 / (1 + p z), for z >= 0, within 1.5e-7.
template <class D>
HWY_INLINE VecOf<D> normal_distribution(D d, VecOf<D> v, VecOf<D>& density) {
  const auto z = hn::Mul(hn::Abs(v), hn::Set(d, 0.70710678f));
  density = hn::Exp(d, hn::Neg(hn::Mul(z, z)));
  const auto t = hn::Div(hn::Set(d, 1.0f), hn::MulAdd(z, hn::Set(d, 0.3275911f), hn::Set(d, 1.0f)));
  auto series = hn::MulAdd(t, hn::Set(d, 1.061405429f), hn::Set(d, -1.453152027f));
  series = hn::MulAdd(series, t, hn::Set(d, 1.421413741f));
  series = hn::MulAdd(series, t, hn::Set(d, -0.284496736f));
  series = hn::MulAdd(series, t, hn::Set(d, 0.254829592f));
  const auto tail = hn::Mul(hn::Mul(hn::Mul(series, t), density), hn::Set(d, 0.5f));
  return hn::IfThenElse(hn::Lt(v, hn::Zero(d)), tail, hn::Sub(hn::Set(d, 1.0f), tail));
}

void gelu(const TokenRows& in, const float* bias, float* y, float* slope) noexcept {
  const float* x = in.from;
  const int64_t rows = in.rows, width = in.width;
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    for_each_column(width, [=](auto d, int64_t c) HWY_ATTR {
      const auto v = hn::Add(hn::LoadU(d, x + c), load_or_zero(d, bias, c));
      auto density = hn::Zero(d);
      const auto phi = normal_distribution(d, v, density);
      hn::StoreU(hn::Mul(v, phi), d, y + c);
      if (slope != nullptr) hn::StoreU(hn::MulAdd(hn::Mul(v, hn::Set(d, 0.39894228f)), density, phi), d, slope + c);
    });
    if (slope != nullptr) slope += width;
  }
}

void gelu_gradient(const TokenRows& in, const float* slope, float* dx, float* dbias) noexcept {
  const float* dy = in.from;
  const int64_t rows = in.rows, width = in.width;
  std::fill(dbias, dbias + width, 0.0f);
  for (int64_t row = 0; row < rows; ++row, slope += width, dy += width, dx += width)
    for_each_column(width, [=](auto d, int64_t c) HWY_ATTR {
      const auto gradient = hn::Mul(hn::LoadU(d, dy + c), hn::LoadU(d, slope + c));
      hn::StoreU(gradient, d, dx + c);
      hn::StoreU(hn::Add(gradient, hn::LoadU(d, dbias + c)), d, dbias + c);
    });
}

float largest_of_row(const float* x, int64_t width) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  if (width < lanes) return *std::max_element(x, x + width);
  auto largest = hn::LoadU(d, x + width - lanes);  // the last vector may overlap the one before
  for (int64_t c = 0; c + lanes < width; c += lanes) largest = hn::Max(largest, hn::LoadU(d, x + c));
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

void softmax(const float* x, float scale, int64_t rows, int64_t width, float* y) noexcept {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const float largest = largest_of_row(x, width);
    float sum = 0;
    sum_row<1>(
        width,
        [=](auto d, int64_t c, auto* sums) HWY_ATTR {
          const auto centred = hn::Sub(hn::LoadU(d, x + c), hn::Set(d, largest));
          // Highway's Exp turns a NaN into zero. It must stay a NaN, or a loss that is not finite would go unseen.
          const auto power = hn::Exp(d, hn::Mul(centred, hn::Set(d, scale)));
          const auto e = hn::IfThenElse(hn::IsNaN(centred), centred, power);
          sums[0] = hn::Add(sums[0], e);
          hn::StoreU(e, d, y + c);
        },
        &sum);
    const float share = 1 / sum;
    for_each_column(width, [=](auto d, int64_t c)
                               HWY_ATTR { hn::StoreU(hn::Mul(hn::LoadU(d, y + c), hn::Set(d, share)), d, y + c); });
  }
}

void softmax_gradient(const TokenRows& in, const float* y, float scale, float* dx) noexcept {
  const float* dy = in.from;
  const int64_t rows = in.rows, width = in.width;
  for (int64_t row = 0; row < rows; ++row, y += width, dy += width, dx += width) {
    float sum = 0;
    sum_row<1>(
        width,
        [=](auto d, int64_t c, auto* sums)
            HWY_ATTR { sums[0] = hn::MulAdd(hn::LoadU(d, y + c), hn::LoadU(d, dy + c), sums[0]); },
        &sum);
    for_each_column(width, [=](auto d, int64_t c) HWY_ATTR {
      const auto rest = hn::Mul(hn::Sub(hn::LoadU(d, dy + c), hn::Set(d, sum)), hn::Set(d, scale));
      hn::StoreU(hn::Mul(hn::LoadU(d, y + c), rest), d, dx + c);
    });
  }
}

const TokenKernels* kernel_set() {
  static constexpr TokenKernels kSet = {add,  column_sums,   layer_norm, layer_norm_gradient,
                                        gelu, gelu_gradient, softmax,    softmax_gradient};
  return &kSet;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tempo::nn::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tempo::nn::kernels {

HWY_EXPORT(kernel_set);

const TokenKernels& token_kernels(int64_t target) {
  if (target == 0) return reference_token_kernels();
  return *HWY_DISPATCH_TABLE(kernel_set)[dispatch_index(target)]();
}

const TokenKernels& best_token_kernels() {
  static const TokenKernels& best = *HWY_DYNAMIC_DISPATCH(kernel_set)();
  return best;
}

}  // namespace tempo::nn::kernels
#endif  // HWY_ONCE
