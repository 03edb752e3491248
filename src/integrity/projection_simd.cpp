// The kernels of verification once per instruction set of Highway, and the choice between them.
#include <algorithm>

#include "integrity/projection_kernels.h"

// Scalable vectors have no arrays; such machines have NEON or the reference as well.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "integrity/projection_simd.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::integrity {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Rows x vectors inner products at once, so that every load feeds several multiply-adds.
template <int kRows, int kCount, typename T>
HWY_INLINE void project_tile(const T* HWY_RESTRICT x, int64_t channels, const T* HWY_RESTRICT vectors,
                             T* HWY_RESTRICT planes, int64_t pitch) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<decltype(d)> sums[kRows][kCount];
  for (auto& row : sums)
    for (auto& sum : row) sum = hn::Zero(d);
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    hn::Vec<decltype(d)> v[kCount];
    for (int j = 0; j < kCount; ++j) v[j] = hn::LoadU(d, vectors + j * channels + c);
    for (int i = 0; i < kRows; ++i) {
      const auto values = hn::LoadU(d, x + i * channels + c);
      for (int j = 0; j < kCount; ++j) sums[i][j] = hn::MulAdd(values, v[j], sums[i][j]);
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < kCount; ++j) {
      T total = hn::GetLane(hn::SumOfLanes(d, sums[i][j]));
      for (int64_t rest = c; rest < channels; ++rest) total += x[i * channels + rest] * vectors[j * channels + rest];
      planes[j * pitch + i] = total;
    }
}

template <int kCount, typename T>
void project_count(const T* x, int64_t rows, int64_t channels, const T* vectors, T* planes, int64_t pitch) {
  constexpr int kRows = 3;  // 3 x 4 sums, 4 vectors and a row fill sixteen registers
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    project_tile<kRows, kCount>(x + r * channels, channels, vectors, planes + r, pitch);
  for (; r < rows; ++r) project_tile<1, kCount>(x + r * channels, channels, vectors, planes + r, pitch);
}

template <typename T>
void project(const T* x, int64_t rows, int64_t channels, const T* vectors, int count, T* planes,
             int64_t pitch) noexcept {
  switch (count) {
    case 1:
      return project_count<1>(x, rows, channels, vectors, planes, pitch);
    case 2:
      return project_count<2>(x, rows, channels, vectors, planes, pitch);
    case 3:
      return project_count<3>(x, rows, channels, vectors, planes, pitch);
    default:
      return project_count<4>(x, rows, channels, vectors, planes, pitch);
  }
}

/// Vectors x (two registers of columns) sums over all rows.
template <int kCount, typename T>
HWY_INLINE void accumulate_strip(const T* HWY_RESTRICT x, int64_t rows, int64_t channels, int64_t columns,
                                 const T* HWY_RESTRICT planes, int64_t pitch, T* HWY_RESTRICT sums) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + 2 * lanes <= columns; c += 2 * lanes) {
    hn::Vec<decltype(d)> low[kCount], high[kCount];
    for (int j = 0; j < kCount; ++j) low[j] = high[j] = hn::Zero(d);
    for (int64_t r = 0; r < rows; ++r) {
      const auto a = hn::LoadU(d, x + r * channels + c), b = hn::LoadU(d, x + r * channels + c + lanes);
      for (int j = 0; j < kCount; ++j) {
        const auto weight = hn::Set(d, planes[j * pitch + r]);
        low[j] = hn::MulAdd(a, weight, low[j]);
        high[j] = hn::MulAdd(b, weight, high[j]);
      }
    }
    for (int j = 0; j < kCount; ++j) {
      hn::StoreU(low[j], d, sums + j * kColumns + c);
      hn::StoreU(high[j], d, sums + j * kColumns + c + lanes);
    }
  }
  for (; c < columns; ++c)
    for (int j = 0; j < kCount; ++j) {
      T total = 0;
      for (int64_t r = 0; r < rows; ++r) total += planes[j * pitch + r] * x[r * channels + c];
      sums[j * kColumns + c] = total;
    }
}

template <typename T>
void accumulate(const T* x, int64_t rows, int64_t channels, int64_t columns, const T* planes, int64_t pitch, int count,
                T* sums) noexcept {
  switch (count) {
    case 1:
      return accumulate_strip<1>(x, rows, channels, columns, planes, pitch, sums);
    case 2:
      return accumulate_strip<2>(x, rows, channels, columns, planes, pitch, sums);
    case 3:
      return accumulate_strip<3>(x, rows, channels, columns, planes, pitch, sums);
    default:
      return accumulate_strip<4>(x, rows, channels, columns, planes, pitch, sums);
  }
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
void plain_project(const T* x, int64_t rows, int64_t channels, const T* vectors, int count, T* planes,
                   int64_t pitch) noexcept {
  for (int64_t r = 0; r < rows; ++r)
    for (int v = 0; v < count; ++v) {
      T total = 0;
      for (int64_t c = 0; c < channels; ++c) total += x[r * channels + c] * vectors[v * channels + c];
      planes[v * pitch + r] = total;
    }
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
  hwy::ChosenTarget choice;  // of this call, not of the process
  choice.Update(target);
  return *HWY_DISPATCH_TABLE(kernel_set)[choice.GetIndex()]();
}

const ProjectionKernelSet& best_projection_kernels() {
  static const ProjectionKernelSet& best = projection_kernels(hwy::SupportedAndGeneratedTargets().front());
  return best;
}

}  // namespace tempo::integrity
#endif  // HWY_ONCE
