// The kernels of verification, compiled once for each instruction set of Highway, and the choice between them.
#include <algorithm>

#include "integrity/projection_kernels.h"

#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "integrity/projection_simd.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::integrity {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Computes the inner products of several rows and vectors at once, so that every load feeds several multiply-adds, and
/// the energy of the rows.
template <int kRows, int kCount, bool kEnergy, typename T>
HWY_INLINE T project_tile(const T* HWY_RESTRICT x, int64_t channels, const T* HWY_RESTRICT vectors,
                          T* HWY_RESTRICT planes, int64_t pitch) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<decltype(d)> sums[kRows][kCount], squares[kRows];
  for (int i = 0; i < kRows; ++i) {
    squares[i] = hn::Zero(d);
    for (auto& sum : sums[i]) sum = hn::Zero(d);
  }
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    hn::Vec<decltype(d)> v[kCount];
    for (int j = 0; j < kCount; ++j) v[j] = hn::LoadU(d, vectors + j * channels + c);
    for (int i = 0; i < kRows; ++i) {
      const auto values = hn::LoadU(d, x + i * channels + c);
      for (int j = 0; j < kCount; ++j) sums[i][j] = hn::MulAdd(values, v[j], sums[i][j]);
      if (kEnergy) squares[i] = hn::MulAdd(values, values, squares[i]);
    }
  }
  T energy = 0;
  for (int i = 0; i < kRows; ++i) {
    if (kEnergy) {
      energy += hn::GetLane(hn::SumOfLanes(d, squares[i]));
      for (int64_t rest = c; rest < channels; ++rest) energy += x[i * channels + rest] * x[i * channels + rest];
    }
    for (int j = 0; j < kCount; ++j) {
      T total = hn::GetLane(hn::SumOfLanes(d, sums[i][j]));
      for (int64_t rest = c; rest < channels; ++rest) total += x[i * channels + rest] * vectors[j * channels + rest];
      planes[j * pitch + i] = total;
    }
  }
  return energy;
}

template <int kCount, bool kEnergy, typename T>
T project_count(const T* x, int64_t rows, int64_t channels, const T* vectors, T* planes, int64_t pitch) {
  constexpr int kRows = kCount == 4 && kEnergy ? 2 : 3;  // sums, vectors, squares and a row fill sixteen registers
  T energy = 0;
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    energy += project_tile<kRows, kCount, kEnergy>(x + r * channels, channels, vectors, planes + r, pitch);
  for (; r < rows; ++r)
    energy += project_tile<1, kCount, kEnergy>(x + r * channels, channels, vectors, planes + r, pitch);
  return energy;
}

template <bool kEnergy, typename T>
T project_any(const T* x, int64_t rows, int64_t channels, const T* vectors, int count, T* planes, int64_t pitch) {
  switch (count) {
    case 1:
      return project_count<1, kEnergy>(x, rows, channels, vectors, planes, pitch);
    case 2:
      return project_count<2, kEnergy>(x, rows, channels, vectors, planes, pitch);
    case 3:
      return project_count<3, kEnergy>(x, rows, channels, vectors, planes, pitch);
    default:
      return project_count<4, kEnergy>(x, rows, channels, vectors, planes, pitch);
  }
}

template <typename T>
T project(const T* x, int64_t rows, int64_t channels, const T* vectors, int count, T* planes, int64_t pitch,
          bool with_energy) noexcept {
  return with_energy ? project_any<true>(x, rows, channels, vectors, count, planes, pitch)
                     : project_any<false>(x, rows, channels, vectors, count, planes, pitch);
}

/// sums[c] += weights[0] x[0, c] + .. + weights[kRows - 1] x[kRows - 1, c], in this order.
template <int kRows, typename T>
HWY_INLINE void add_rows(const T* HWY_RESTRICT x, int64_t channels, int64_t columns, const T* HWY_RESTRICT weights,
                         T* HWY_RESTRICT sums) {
  const auto columns_of = [&](auto d, int64_t c) HWY_ATTR {
    auto sum = hn::LoadU(d, sums + c);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum = hn::MulAdd(hn::LoadU(d, x + r * channels + c), hn::Set(d, weights[r]), sum);
    hn::StoreU(sum, d, sums + c);
  };
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) columns_of(d, c);
  for (; c < columns; ++c) columns_of(hn::CappedTag<T, 1>(), c);
}

template <typename T>
void accumulate(const T* x, int64_t rows, int64_t channels, int64_t columns, const T* planes, int64_t pitch, int count,
                T* sums) noexcept {
  constexpr int kRows = 8;  // a sum is loaded and stored once for this many rows, which stay in the first-level cache
  for (int j = 0; j < count; ++j) std::fill(sums + j * kColumns, sums + j * kColumns + columns, T(0));
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    for (int j = 0; j < count; ++j)
      add_rows<kRows>(x + r * channels, channels, columns, planes + j * pitch + r, sums + j * kColumns);
  for (; r < rows; ++r)
    for (int j = 0; j < count; ++j)
      add_rows<1>(x + r * channels, channels, columns, planes + j * pitch + r, sums + j * kColumns);
}

template <typename T>
T sum_of_squares(const T* x, int64_t count) noexcept {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto even = hn::Zero(d), odd = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    even = hn::MulAdd(a, a, even);
    odd = hn::MulAdd(b, b, odd);
  }
  T total = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < count; ++i) total += x[i] * x[i];
  return total;
}

template <typename T>
constexpr ProjectionKernels<T> kTable = {project<T>, accumulate<T>, sum_of_squares<T>};

const ProjectionKernelSet* kernel_set() {
  static constexpr ProjectionKernelSet kSet = {kTable<float>, kTable<double>};
  return &kSet;
}

}  // namespace HWY_NAMESPACE
}  // namespace tempo::integrity
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tempo::integrity {
namespace {

template <typename T>
T plain_project(const T* x, int64_t rows, int64_t channels, const T* vectors, int count, T* planes, int64_t pitch,
                bool with_energy) noexcept {
  T energy = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; with_energy && c < channels; ++c) energy += x[r * channels + c] * x[r * channels + c];
    for (int v = 0; v < count; ++v) {
      T total = 0;
      for (int64_t c = 0; c < channels; ++c) total += x[r * channels + c] * vectors[v * channels + c];
      planes[v * pitch + r] = total;
    }
  }
  return energy;
}

template <typename T>
void plain_accumulate(const T* x, int64_t rows, int64_t channels, int64_t columns, const T* planes, int64_t pitch,
                      int count, T* sums) noexcept {
  for (int v = 0; v < count; ++v)
    for (int64_t c = 0; c < columns; ++c) {
      T total = 0;
      for (int64_t r = 0; r < rows; ++r) total += planes[v * pitch + r] * x[r * channels + c];
      sums[v * kColumns + c] = total;
    }
}

template <typename T>
T plain_sum_of_squares(const T* x, int64_t count) noexcept {
  T total = 0;
  for (int64_t i = 0; i < count; ++i) total += x[i] * x[i];
  return total;
}

template <typename T>
constexpr ProjectionKernels<T> kReference = {plain_project<T>, plain_accumulate<T>, plain_sum_of_squares<T>};

}  // namespace

HWY_EXPORT(kernel_set);

const ProjectionKernelSet& reference_projection_kernels() {
  static constexpr ProjectionKernelSet kSet = {kReference<float>, kReference<double>};
  return kSet;
}

const ProjectionKernelSet& projection_kernels(int64_t target) {
  if (target == 0) return reference_projection_kernels();
  return *HWY_DISPATCH_TABLE(kernel_set)[dispatch_index(target)]();
}

const ProjectionKernelSet& best_projection_kernels() {
  static const ProjectionKernelSet& best = projection_kernels(hwy::SupportedAndGeneratedTargets().front());
  return best;
}

}  // namespace tempo::integrity
#endif  // HWY_ONCE
