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

/// Where the bits of a row lie: whole bytes for each vector of columns, then a byte for each remaining column.
class ActiveBits {
 public:
  explicit ActiveBits(int64_t channels) : vectors_(channels / kLanes), stride_(of(channels)) {}
  [[nodiscard]] int64_t stride() const { return stride_; }
  /// Offset of the bits of the vector that begins at column c.
  [[nodiscard]] int64_t operator()(int64_t row, int64_t c) const {
    const int64_t vector = c / kLanes;
    return row * stride_ + (vector < vectors_ ? vector * kBytes : vectors_ * kBytes + c % kLanes);
  }

 private:
  static constexpr auto kLanes = static_cast<int64_t>(hn::MaxLanes(hn::ScalableTag<float>()));
  static constexpr int64_t kBytes = (kLanes + 7) / 8;
  static int64_t of(int64_t channels) { return channels / kLanes * kBytes + channels % kLanes; }

  int64_t vectors_, stride_;
};

/// Computes two sums over rows for `kVectors` vectors of columns, in registers. `term(d, row, c, first, second)` adds
/// the terms of one row.
template <int kVectors, class D, class Term>
HWY_INLINE void sum_strip(D d, int64_t rows, int64_t c, const Term& term, float* first, float* second) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  VecOf<D> a[kVectors], b[kVectors];
  for (int k = 0; k < kVectors; ++k) a[k] = b[k] = hn::Zero(d);
  for (int64_t row = 0; row < rows; ++row)
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) term(d, row, c + k * lanes, a[k], b[k]);
  for (int k = 0; k < kVectors; ++k) {
    hn::StoreU(a[k], d, first + c + k * lanes);
    hn::StoreU(b[k], d, second + c + k * lanes);
  }
}

template <class Term>
HWY_INLINE void sum_columns(int64_t rows, int64_t channels, const Term& term, float* first, float* second) {
  constexpr int kVectors = 4;  // reads adjacent cache lines, and fits the registers
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + kVectors * lanes <= channels; c += kVectors * lanes) sum_strip<kVectors>(d, rows, c, term, first, second);
  for (; c + lanes <= channels; c += lanes) sum_strip<1>(d, rows, c, term, first, second);
  for (; c < channels; ++c) sum_strip<1>(d1, rows, c, term, first, second);
}

/// Calls `element(d, row, c)` for all columns of all rows, whole vectors first.
template <class Element>
HWY_INLINE void for_each_vector(int64_t rows, int64_t channels, const Element& element) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t row = 0; row < rows; ++row) {
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) element(d, row, c);
    for (; c < channels; ++c) element(d1, row, c);
  }
}

/// Calls `body(passed)`, where passed(d, x, gradient, row, c) is `gradient` if the unit was active, else 0.
template <class Body>
HWY_INLINE void with_passed(const Active& active, const ActiveBits& bits, const Body& body) {
  if (active.bits != nullptr) {
    body([&bits, of = active.bits](auto d, auto /*x*/, auto gradient, int64_t row, int64_t c)
             HWY_ATTR { return hn::IfThenElseZero(hn::LoadMaskBits(d, of + bits(row, c)), gradient); });
  } else if (active.scale != nullptr) {
    body([scale = active.scale, offset = active.offset](auto d, auto x, auto gradient, int64_t /*row*/, int64_t c)
             HWY_ATTR {
               const auto before = hn::MulAdd(x, hn::LoadU(d, scale + c), hn::LoadU(d, offset + c));
               return hn::IfThenElseZero(hn::Gt(before, hn::Zero(d)), gradient);
             });
  } else {
    body([](auto /*d*/, auto /*x*/, auto gradient, int64_t /*row*/, int64_t /*c*/) HWY_ATTR { return gradient; });
  }
}

// Arguments are copied before a loop: for all that the compiler knows, a store could change them, which would then be
// read again each time.

void sums(const NormRows& in, const float* shift, float* sum, float* squares) noexcept {
  const float* const x = in.x;
  const int64_t channels = in.channels;
  const auto term = [=](auto d, int64_t row, int64_t c, auto& a, auto& b) HWY_ATTR {
    const auto v = hn::Sub(hn::LoadU(d, x + row * channels + c), hn::LoadU(d, shift + c));
    a = hn::Add(a, v);
    b = hn::MulAdd(v, v, b);
  };
  sum_columns(in.rows, channels, term, sum, squares);
}

void apply(const NormRows& in, const float* residual, const NormMap& map, float* y, uint8_t* active) noexcept {
  const float *const x = in.x, *const scale = map.scale, *const offset = map.offset;
  const int64_t channels = in.channels;
  const bool relu = map.relu;
  const ActiveBits bits(channels);
  for_each_vector(in.rows, channels, [=](auto d, int64_t row, int64_t c) HWY_ATTR {
    const int64_t at = row * channels + c;
    auto v = hn::MulAdd(hn::LoadU(d, x + at), hn::LoadU(d, scale + c), hn::LoadU(d, offset + c));
    if (residual != nullptr) v = hn::Add(v, hn::LoadU(d, residual + at));
    // Max would turn a NaN into a number, and a loss that is not finite would go unseen.
    if (relu) v = hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v);
    hn::StoreU(v, d, y + at);
    if (active != nullptr) hn::StoreMaskBits(d, hn::Gt(v, hn::Zero(d)), active + bits(row, c));
  });
}

void gradient_sums(const NormGradientRows& in, const float* mean, float* sum, float* products) noexcept {
  const float *const x = in.x, *const dy = in.dy;
  const int64_t rows = in.rows, channels = in.channels;
  with_passed(in.active, ActiveBits(channels), [=](const auto& passed) HWY_ATTR {
    const auto term = [=](auto d, int64_t row, int64_t c, auto& a, auto& b) HWY_ATTR {
      const int64_t at = row * channels + c;
      const auto v = hn::LoadU(d, x + at);
      const auto g = passed(d, v, hn::LoadU(d, dy + at), row, c);
      a = hn::Add(a, g);
      b = hn::MulAdd(g, hn::Sub(v, hn::LoadU(d, mean + c)), b);
    };
    sum_columns(rows, channels, term, sum, products);
  });
}

void gradient(const NormGradientRows& in, const NormGradientMap& map, float* dx, float* dresidual) noexcept {
  const float *const x = in.x, *const dy = in.dy;
  const float *const mean = map.mean, *const scale = map.scale, *const slope = map.slope, *const offset = map.offset;
  const int64_t rows = in.rows, channels = in.channels;
  with_passed(in.active, ActiveBits(channels), [=](const auto& passed) HWY_ATTR {
    for_each_vector(rows, channels, [=](auto d, int64_t row, int64_t c) HWY_ATTR {
      const int64_t at = row * channels + c;
      const auto v = hn::LoadU(d, x + at);
      const auto g = passed(d, v, hn::LoadU(d, dy + at), row, c);
      if (dresidual != nullptr) hn::StoreU(g, d, dresidual + at);
      const auto part =
          hn::MulAdd(hn::Sub(v, hn::LoadU(d, mean + c)), hn::LoadU(d, slope + c), hn::LoadU(d, offset + c));
      hn::StoreU(hn::MulAdd(g, hn::LoadU(d, scale + c), part), d, dx + at);
    });
  });
}

int64_t active_bytes(int64_t channels) noexcept { return ActiveBits(channels).stride(); }

const NormActKernels* kernel_set() {
  static constexpr NormActKernels kSet = {sums, apply, gradient_sums, gradient, active_bytes};
  return &kSet;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tempo::nn::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tempo::nn::kernels {
namespace {

void plain_sums(const NormRows& in, const float* shift, float* sum, float* squares) noexcept {
  const auto [x, rows, channels] = in;
  std::fill(sum, sum + channels, 0.0f);
  std::fill(squares, squares + channels, 0.0f);
  for (int64_t i = 0; i < rows * channels; ++i) {
    const int64_t c = i % channels;
    const float v = x[i] - shift[c];
    sum[c] += v;
    squares[c] += v * v;
  }
}

void plain_apply(const NormRows& in, const float* residual, const NormMap& map, float* y, uint8_t* active) noexcept {
  const auto [x, rows, channels] = in;
  const auto [scale, offset, relu] = map;
  for (int64_t i = 0; i < rows * channels; ++i) {
    const float v = x[i] * scale[i % channels] + offset[i % channels] + (residual != nullptr ? residual[i] : 0);
    y[i] = relu && v < 0 ? 0 : v;
    if (active != nullptr) active[i] = y[i] > 0 ? 1 : 0;
  }
}

int64_t plain_active_bytes(int64_t channels) noexcept { return channels; }

float plain_passed(const Active& active, float x, float gradient, int64_t i, int64_t c) {
  if (active.bits != nullptr) return active.bits[i] != 0 ? gradient : 0;
  if (active.scale != nullptr) return x * active.scale[c] + active.offset[c] > 0 ? gradient : 0;
  return gradient;
}

void plain_gradient_sums(const NormGradientRows& in, const float* mean, float* sum, float* products) noexcept {
  const auto [x, active, dy, rows, channels] = in;
  std::fill(sum, sum + channels, 0.0f);
  std::fill(products, products + channels, 0.0f);
  for (int64_t i = 0; i < rows * channels; ++i) {
    const int64_t c = i % channels;
    const float g = plain_passed(active, x[i], dy[i], i, c);
    sum[c] += g;
    products[c] += g * (x[i] - mean[c]);
  }
}

void plain_gradient(const NormGradientRows& in, const NormGradientMap& map, float* dx, float* dresidual) noexcept {
  const auto [x, active, dy, rows, channels] = in;
  const auto [mean, scale, slope, offset] = map;
  for (int64_t i = 0; i < rows * channels; ++i) {
    const int64_t c = i % channels;
    const float g = plain_passed(active, x[i], dy[i], i, c);
    if (dresidual != nullptr) dresidual[i] = g;
    dx[i] = g * scale[c] + (x[i] - mean[c]) * slope[c] + offset[c];
  }
}

}  // namespace

HWY_EXPORT(kernel_set);

const NormActKernels& reference_norm_act_kernels() {
  static constexpr NormActKernels kSet = {plain_sums, plain_apply, plain_gradient_sums, plain_gradient,
                                          plain_active_bytes};
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
