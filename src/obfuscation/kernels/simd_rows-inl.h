// One row round, straight from memory to memory, for as many columns as the caller has in a row.
// Compiled once per instruction set.
#if defined(TEMPO_SIMD_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TEMPO_SIMD_ROWS_INL_H_
#undef TEMPO_SIMD_ROWS_INL_H_
#else
#define TEMPO_SIMD_ROWS_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "hwy/cache_control.h"
#include "obfuscation/kernels/simd_group-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation::kernels {
namespace HWY_NAMESPACE {

/// Rows at given addresses.
template <typename E>
struct ListedRows {
  E* const* row;
  HWY_INLINE E* at(int i) const { return row[i]; }
};
/// Rows a pitch apart, in order.
template <typename E>
struct ConsecutiveRows {
  E* base;
  int64_t pitch;
  HWY_INLINE E* at(int i) const { return base + i * pitch; }
};
/// Rows a pitch apart, in the order of a permutation. Addresses are worked out where they are used: kept in an array
/// they would cost more than the butterfly.
template <typename E>
struct PermutedRows {
  E* base;
  int64_t pitch;
  const uint32_t* source;
  HWY_INLINE E* at(int i) const { return base + int64_t{source[i]} * pitch; }
};

/// Columns [c, c + lanes) of dst = row round of those of src.
template <bool kGather, int kBlock, bool kFull, class D, typename T, class Src, class Dst>
HWY_INLINE void mix_vectors(D d, Src src, Dst dst, const T* HWY_RESTRICT coefficient, int rows, uint32_t block,
                            int64_t c, bool stream) {
  VecOf<D> v[kGroup];
#pragma GCC unroll 16
  for (int i = 0; i < kGroup; ++i) {
    v[i] = kFull || i < rows ? load(d, src.at(i) + c) : hn::Zero(d);
    if (kGather) v[i] = hn::Mul(v[i], hn::Set(d, coefficient[i]));
  }
  butterfly<kBlock>(v, rows, block);
#pragma GCC unroll 16
  for (int i = 0; i < kGroup; ++i) {
    if (!kGather) v[i] = hn::Mul(v[i], hn::Set(d, coefficient[i]));
    if (kFull || i < rows) store(d, v[i], dst.at(i) + c, stream);
  }
}

/// Columns [0, width) of up to sixteen rows.
template <bool kGather, int kBlock, bool kFull, typename T, class Src, class Dst>
HWY_INLINE void mix_columns(Src src, Dst dst, const T* HWY_RESTRICT coefficient, int rows, uint32_t block,
                            int64_t width, bool stream) {
  const TagOf<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= width; c += lanes)
    mix_vectors<kGather, kBlock, kFull>(d, src, dst, coefficient, rows, block, c, stream);
  for (; c < width; ++c)
    mix_vectors<kGather, kBlock, kFull>(hn::CappedTag<T, 1>(), src, dst, coefficient, rows, block, c, false);
}

template <bool kGather, typename T, class Src, class Dst>
HWY_INLINE void mix_group(Src src, Dst dst, const T* HWY_RESTRICT coefficient, int rows, uint32_t block, int64_t width,
                          bool stream) {
  if (block == kGroup && rows == kGroup)
    mix_columns<kGather, kWholeBlock, true>(src, dst, coefficient, rows, block, width, stream);
  else if (block == 1 && rows == kGroup)
    mix_columns<kGather, kNoBlock, true>(src, dst, coefficient, rows, block, width, stream);
  else
    mix_columns<kGather, kAnyBlock, false>(src, dst, coefficient, rows, block, width, stream);
}

/// How far ahead rows are fetched, in groups.
constexpr int64_t kPrefetchGroups = 4;

/// Starts fetching what the hardware will not guess: permuted rows, and rows of which a panel is only a piece.
/// Memory that is written past the caches needs no fetching.
template <bool kGather, typename In, typename Out>
HWY_INLINE void prefetch_rows(const RowPass& pass, const In* src, Out* dst, int64_t row) {
  if (row + kGroup > pass.rows) return;
  const uint32_t* source = pass.source + row;
  if (kGather) {
#pragma GCC unroll 16
    for (int i = 0; i < kGroup; ++i) __builtin_prefetch(src + int64_t{source[i]} * pass.src_pitch);
    return;
  }
  if (!pass.stream) {
#pragma GCC unroll 16
    for (int i = 0; i < kGroup; ++i) __builtin_prefetch(dst + int64_t{source[i]} * pass.dst_pitch, 1);
  }
  if (pass.src_pitch != pass.width) {
#pragma GCC unroll 16
    for (int i = 0; i < kGroup; ++i) __builtin_prefetch(src + (row + i) * pass.src_pitch);
  }
}

template <bool kGather, typename T, typename In, typename Out>
HWY_INLINE void mix_rows_as(const RowPass& pass, int64_t first, int64_t last) {
  const int64_t end = std::min(last * kGroup, pass.rows);
  for (int64_t row = first * kGroup; row < end; row += kGroup) {
    const int rows = static_cast<int>(std::min<int64_t>(kGroup, end - row));
    const uint32_t* source = pass.source + row;
    T coefficient[kGroup] = {};
    if (rows == kGroup)
      group_coefficients(pass.scale + row, pass.divide, pass.block, coefficient);
    else
      round_coefficients(pass.scale, pass.divide, pass.block, row, pass.rows, coefficient);
    for (int64_t panel = 0; panel < pass.panels; ++panel) {
      const int64_t width = panel + 1 == pass.panels ? pass.last_width : pass.width;
      const In* src = static_cast<const In*>(pass.src) + panel * pass.src_panel_stride;
      Out* dst = static_cast<Out*>(pass.dst) + panel * pass.dst_panel_stride;
      prefetch_rows<kGather>(pass, src, dst, row + kPrefetchGroups * kGroup);
      if constexpr (kGather)
        mix_group<kGather>(PermutedRows<const In>{src, pass.src_pitch, source},
                           ConsecutiveRows<Out>{dst + row * pass.dst_pitch, pass.dst_pitch}, coefficient, rows,
                           pass.block, width, pass.stream);
      else
        mix_group<kGather>(ConsecutiveRows<const In>{src + row * pass.src_pitch, pass.src_pitch},
                           PermutedRows<Out>{dst, pass.dst_pitch, source}, coefficient, rows, pass.block, width,
                           pass.stream);
    }
  }
}

template <typename T>
void gather_rows(const RowPass& pass, int64_t first, int64_t last) noexcept {
  if constexpr (std::is_same_v<T, float>)
    if (pass.dst_bf16) return mix_rows_as<true, T, T, BFloat16>(pass, first, last);
  mix_rows_as<true, T, T, T>(pass, first, last);
}

template <typename T>
void scatter_rows(const RowPass& pass, int64_t first, int64_t last) noexcept {
  if constexpr (std::is_same_v<T, float>)
    if (pass.src_bf16) return mix_rows_as<false, T, BFloat16, T>(pass, first, last);
  mix_rows_as<false, T, T, T>(pass, first, last);
}

template <typename T>
void sum_runs(const T* const* src, int64_t count, T* dst, int64_t width) noexcept {
  const auto columns = [&](auto d, int64_t c) HWY_ATTR {
    auto sum = hn::LoadU(d, src[0] + c);
    for (int64_t k = 1; k < count; ++k) sum = hn::Add(sum, hn::LoadU(d, src[k] + c));
    hn::StoreU(sum, d, dst + c);
  };
  const TagOf<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= width; c += lanes) columns(d, c);
  for (; c < width; ++c) columns(hn::CappedTag<T, 1>(), c);
}

}  // namespace HWY_NAMESPACE
}  // namespace tempo::obfuscation::kernels
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
