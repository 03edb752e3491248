// Runs one row round from memory to memory, for as many columns as the caller has in a row. Compiled once for each
// instruction set.
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
/// Rows a pitch apart, in the order of a permutation. Addresses are computed where they are used: keeping them in an
/// array would cost more than the butterfly.
template <typename E>
struct PermutedRows {
  E* base;
  int64_t pitch;
  const uint32_t* source;
  HWY_INLINE E* at(int i) const { return base + int64_t{source[i]} * pitch; }
};

/// The row round of one group.
template <typename T>
struct GroupRound {
  const T* coefficient;  ///< [rows]
  int rows;              ///< 1..kGroup
  uint32_t block;        ///< KeyRound::block
};

/// Computes columns [c, c + lanes) of dst, the row round of those of src.
template <bool kGather, int kBlock, bool kFull, Put kPut, class D, typename T, class Src, class Dst>
HWY_INLINE void mix_vectors(D d, Src src, Dst dst, GroupRound<T> round, int64_t c) {
  using V = VecOf<D>;
  const T* const HWY_RESTRICT coefficient = round.coefficient;
  const int rows = round.rows;
  butterfly<kBlock, V>(
      rows, round.block,
      [&](int i) HWY_ATTR {
        const V v = kFull || i < rows ? load(d, src.at(i) + c) : hn::Zero(d);
        return kGather ? hn::Mul(v, hn::Set(d, coefficient[i])) : v;
      },
      [&](int i, V v) HWY_ATTR {
        if (!kGather) v = hn::Mul(v, hn::Set(d, coefficient[i]));
        if (kFull || i < rows) put<kPut>(d, v, dst.at(i) + c);
      });
}

/// Computes columns [c, width), fewer than a vector holds, one by one. One function serves all kinds of block: unrolled
/// for each kind, these loops would be half of the code.
template <bool kGather, Put kPut, typename T, class Src, class Dst>
HWY_NOINLINE void mix_last_columns(Src src, Dst dst, GroupRound<T> round, int64_t c, int64_t width) {
  round.block = std::min<uint32_t>(round.block, kGroup);
  for (; c < width; ++c) mix_vectors<kGather, kAnyBlock, false, kPut>(hn::CappedTag<T, 1>(), src, dst, round, c);
}

/// Computes columns [0, width) of up to sixteen rows.
template <bool kGather, int kBlock, bool kFull, Put kPut, typename T, class Src, class Dst>
HWY_INLINE void mix_columns(Src src, Dst dst, GroupRound<T> round, int64_t width) {
  const TagOf<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  // Rows take turns, so only whole lines should go past the caches.
  constexpr bool kWholeLine = hn::MaxLanes(TagOf<T>()) * sizeof(T) >= 64;
  constexpr Put kPutOne = kPut == Put::kStream ? Put::kStore : kPut, kPutVector = kWholeLine ? kPut : kPutOne;
  int64_t c = 0;
  for (; c + lanes <= width; c += lanes) mix_vectors<kGather, kBlock, kFull, kPutVector>(d, src, dst, round, c);
  if (c < width) mix_last_columns<kGather, kPutOne>(src, dst, round, c, width);
}

/// How a pass writes; see BlockPass.
struct Writing {
  bool stream = false, accumulate = false;
};

/// Runs a row round on columns [0, width) of one group.
template <bool kGather, typename T, class Src, class Dst>
HWY_INLINE void mix_group(Src src, Dst dst, GroupRound<T> round, int64_t width, Writing writing) {
  with_put(writing.stream, writing.accumulate, [&](auto kind) HWY_ATTR {
    if (round.block >= kGroup && round.rows == kGroup)
      mix_columns<kGather, kWholeBlock, true, kind>(src, dst, round, width);
    else if (round.block == 1 && round.rows == kGroup)
      mix_columns<kGather, kNoBlock, true, kind>(src, dst, round, width);
    else
      mix_columns<kGather, kAnyBlock, false, kind>(
          src, dst, GroupRound<T>{round.coefficient, round.rows, std::min<uint32_t>(round.block, kGroup)}, width);
  });
}

/// How far ahead rows are prefetched, in groups.
constexpr int64_t kPrefetchGroups = 4;

/// The rows [begin, end) that one call processes.
struct CallRows {
  int64_t begin, end;
};

/// Prefetches what the hardware does not predict: permuted rows, of this pass or the next, and rows of which a panel is
/// only a piece.
template <bool kGather, typename In, typename Out>
HWY_INLINE void prefetch_rows(const RowPass& pass, const In* src, Out* dst, int64_t row, CallRows call) {
  if (!kGather && row + kGroup <= call.end && pass.src_pitch != pass.width) {
#pragma GCC unroll 16
    for (int i = 0; i < kGroup; ++i) __builtin_prefetch(src + (row - call.begin + i) * pass.src_pitch);
  }
  using Far = std::conditional_t<kGather, const In, Out>;
  Far* far;
  if constexpr (kGather)
    far = src;
  else
    far = dst;
  if (row + kGroup > call.end) {
    if (pass.ahead == nullptr) return;
    far = static_cast<Far*>(const_cast<void*>(pass.ahead));
    row += pass.ahead_row - call.end;
    if (row + kGroup > pass.rows) return;
  }
  const int64_t pitch = kGather ? pass.src_pitch : pass.dst_pitch;
  const uint32_t* source = pass.source + row;
#pragma GCC unroll 16
  for (int i = 0; i < kGroup; ++i) __builtin_prefetch(far + int64_t{source[i]} * pitch, kGather ? 0 : 1);
}

template <bool kGather, typename T, typename In, typename Out>
HWY_INLINE void mix_rows_as(const RowPass& pass, int64_t first, int64_t last) {
  const int64_t begin = first * kGroup, end = std::min(last * kGroup, pass.rows);
  for (int64_t row = begin; row < end; row += kGroup) {
    const int rows = static_cast<int>(std::min<int64_t>(kGroup, end - row));
    const uint32_t* source = pass.source + row;
    T coefficient[kGroup] = {};
    const GroupRound<T> round{coefficient, rows, pass.block};
    if (rows == kGroup)
      group_coefficients(pass.scale + row, pass.divide, block_at(row, pass.rows, pass.block), coefficient);
    else
      round_coefficients({pass.scale, pass.divide, pass.block, pass.rows}, row, coefficient);
    for (int64_t panel = 0; panel < pass.panels; ++panel) {
      const int64_t width = panel + 1 == pass.panels ? pass.last_width : pass.width;
      const In* src = static_cast<const In*>(pass.src) + panel * pass.src_panel_stride;
      Out* dst = static_cast<Out*>(pass.dst) + panel * pass.dst_panel_stride;
      prefetch_rows<kGather>(pass, src, dst, row + kPrefetchGroups * kGroup, CallRows{begin, end});
      if constexpr (kGather)
        mix_group<kGather>(PermutedRows<const In>{src, pass.src_pitch, source},
                           ConsecutiveRows<Out>{dst + (row - begin) * pass.dst_pitch, pass.dst_pitch}, round, width,
                           {.stream = pass.stream});
      else
        mix_group<kGather>(ConsecutiveRows<const In>{src + (row - begin) * pass.src_pitch, pass.src_pitch},
                           PermutedRows<Out>{dst, pass.dst_pitch, source}, round, width, {.stream = pass.stream});
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

/// Runs one butterfly between groups, each of which has a row of src and one of dst, for columns [c, c + lanes).
template <int kBlock, bool kStream = false, class D, typename In, typename Out>
HWY_INLINE void mix_across_vectors(D d, ConsecutiveRows<const In> src, ConsecutiveRows<Out> dst, int groups,
                                   int64_t c) {
  using V = VecOf<D>;
  butterfly<kBlock, V>(
      groups, static_cast<uint32_t>(groups),
      [&](int k) HWY_ATTR { return kBlock == kWholeBlock || k < groups ? load(d, src.at(k) + c) : hn::Zero(d); },
      [&](int k, V v) HWY_ATTR {
        if (kBlock == kWholeBlock || k < groups) store(d, v, dst.at(k) + c, kStream);
      });
}

/// Does the same for columns [c, width), fewer than a vector holds; one function for all kinds of block.
template <typename T, typename In, typename Out>
HWY_NOINLINE void mix_last_across(ConsecutiveRows<const In> src, ConsecutiveRows<Out> dst, int groups, int64_t c,
                                  int64_t width) {
  for (; c < width; ++c) mix_across_vectors<kAnyBlock>(hn::CappedTag<T, 1>(), src, dst, groups, c);
}

/// Runs one butterfly between groups over columns [0, width).
template <int kBlock, typename T, typename In, typename Out>
HWY_INLINE void mix_across(ConsecutiveRows<const In> src, ConsecutiveRows<Out> dst, int groups, int64_t width) {
  const TagOf<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= width; c += lanes) mix_across_vectors<kBlock>(d, src, dst, groups, c);
  if (c < width) mix_last_across<T>(src, dst, groups, c, width);
}

/// Writes rows of a whole group of columns past the caches. Half a line at a time, in turns with other rows, would
/// reach memory as half lines.
template <typename T>
HWY_INLINE void stream_rows(const T* HWY_RESTRICT rows, int count, T* dst, int64_t pitch) {
  const TagOf<T> d;
  for (int i = 0; i < count; ++i, dst += pitch)
#pragma GCC unroll 16
    for (size_t c = 0; c < kGroup; c += hn::Lanes(d)) hn::Stream(hn::Load(d, rows + i * kGroup + c), d, dst + c);
}

/// Mixes columns [0, width), up to a group, of all rows of a section.
/// @param ahead column 0 of what is prefetched, row by row; or nullptr
template <bool kGather, typename T, typename In, typename Out>
HWY_INLINE void mix_section(const WidePass& pass, const In* src, Out* dst, const In* ahead, int64_t width) {
  for (int64_t first = 0; first < pass.rows;) {
    const int64_t rows = block_at(first, pass.rows, pass.block);
    const int groups = static_cast<int>(std::max<int64_t>(rows / kGroup, 1));
    const int64_t src_step = (kGather ? kGroup : 1) * pass.src_pitch,
                  dst_step = (kGather ? 1 : kGroup) * pass.dst_pitch;
    for (int64_t j = 0; j < rows / groups; ++j) {
      const ConsecutiveRows<const In> from{src + (first + (kGather ? j : j * groups)) * pass.src_pitch, src_step};
      Out* const to = dst + (first + (kGather ? j * groups : j)) * pass.dst_pitch;
      if (ahead != nullptr)
        for (int k = 0; k < groups; ++k) __builtin_prefetch(ahead + (first + j * groups + k) * pass.src_pitch);
      if (kGather && pass.stream && width == kGroup) {
        constexpr bool kWholeLine = hn::MaxLanes(TagOf<T>()) * sizeof(T) >= 64;
        if constexpr (std::is_same_v<Out, T> && kWholeLine) {
          const ConsecutiveRows<T> lines{to, dst_step};
          const TagOf<T> d;
          for (int64_t c = 0; c < kGroup; c += static_cast<int64_t>(hn::Lanes(d)))
            if (groups == kGroup)
              mix_across_vectors<kWholeBlock, true>(d, from, lines, groups, c);
            else
              mix_across_vectors<kAnyBlock, true>(d, from, lines, groups, c);
        } else if constexpr (std::is_same_v<Out, T>) {
          alignas(64) T lines[kGroup * kGroup];
          const ConsecutiveRows<T> gathered{lines, kGroup};
          if (groups == kGroup)
            mix_across<kWholeBlock, T>(from, gathered, groups, width);
          else
            mix_across<kAnyBlock, T>(from, gathered, groups, width);
          stream_rows(lines, groups, to, pass.dst_pitch);
        }
        continue;
      }
      if (groups == kGroup)
        mix_across<kWholeBlock, T>(from, ConsecutiveRows<Out>{to, dst_step}, groups, width);
      else
        mix_across<kAnyBlock, T>(from, ConsecutiveRows<Out>{to, dst_step}, groups, width);
    }
    first += rows;
  }
}

template <bool kGather, typename T, typename In, typename Out>
HWY_INLINE void mix_wide_as(const WidePass& pass) {
  const auto at = [](const Columns& columns, int64_t c) {
    return c / columns.width * columns.stride + c % columns.width;
  };
  for (int64_t c = 0; c < pass.channels; c += kGroup) {
    const int64_t width = std::min<int64_t>(kGroup, pass.channels - c);
    const In *const src = static_cast<const In*>(pass.src), *ahead = static_cast<const In*>(pass.ahead);
    if (c + kGroup < pass.channels) ahead = src + at(pass.src_columns, c + kGroup);
    mix_section<kGather, T>(pass, src + at(pass.src_columns, c), static_cast<Out*>(pass.dst) + at(pass.dst_columns, c),
                            ahead, width);
  }
}

template <typename T>
void mix_wide(const WidePass& pass) noexcept {
  if constexpr (std::is_same_v<T, float>) {
    if (pass.dst_bf16) return mix_wide_as<true, T, T, BFloat16>(pass);
    if (pass.src_bf16) return mix_wide_as<false, T, BFloat16, T>(pass);
  }
  if (pass.gathering) return mix_wide_as<true, T, T, T>(pass);
  mix_wide_as<false, T, T, T>(pass);
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

template <typename T>
void map_row(const T* row, const Affine<T>& map, int64_t channels, T* made) noexcept {
  const auto columns = [&](auto d, int64_t c) HWY_ATTR {
    auto v = hn::MulAdd(hn::LoadU(d, row + c), hn::LoadU(d, map.scale + c), hn::LoadU(d, map.offset + c));
    // Max would turn a NaN into a number, and a loss that is not finite would go unseen.
    if (map.relu) v = hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v);
    hn::StoreU(v, d, made + c);
  };
  const TagOf<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) columns(d, c);
  for (; c < channels; ++c) columns(hn::CappedTag<T, 1>(), c);
}

}  // namespace HWY_NAMESPACE
}  // namespace tempo::obfuscation::kernels
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
