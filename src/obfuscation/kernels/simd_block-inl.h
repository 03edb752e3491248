// Processes a group of rows at one position, with channel rounds. The group is transposed on the way in, so that a
// channel is one or a few whole vectors: permuting channels is then a choice of addresses, and mixing them is the same
// butterfly as for rows. Compiled once for each instruction set.
#if defined(TEMPO_SIMD_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TEMPO_SIMD_BLOCK_INL_H_
#undef TEMPO_SIMD_BLOCK_INL_H_
#else
#define TEMPO_SIMD_BLOCK_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "obfuscation/kernels/simd_group-inl.h"
#include "obfuscation/kernels/simd_permute-inl.h"
#include "obfuscation/kernels/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation::kernels {
namespace HWY_NAMESPACE {

template <typename T>
constexpr int kLanesOf = static_cast<int>(hn::MaxLanes(TagOf<T>()));

/// Walks the groups of kGroup channels of a row and knows where each starts.
class ColumnWalk {
 public:
  explicit ColumnWalk(const Columns& columns) : columns_(columns) {}
  [[nodiscard]] int64_t offset() const { return start_ + within_; }
  void next() {
    within_ += kGroup;
    if (within_ < columns_.width) return;
    within_ = 0;
    start_ += columns_.stride;
  }

 private:
  Columns columns_;
  int64_t start_ = 0, within_ = 0;
};

/// Loads columns [c, c + lanes) of the rows at `src` and applies the row round. Lane l of v[i] is column c + l of row
/// i.
template <bool kGather, int kBlock, class D, typename T, typename In>
HWY_INLINE void load_rows(D d, const BlockPass<T>& pass, const In* const* src, int64_t c, VecOf<D> (&v)[kGroup]) {
  using V = VecOf<D>;
  butterfly<kBlock, V>(
      pass.rows, pass.row_block,
      [&](int i) HWY_ATTR {
        const V loaded = load(d, src[i] + c);
        return kGather ? hn::Mul(loaded, hn::Set(d, pass.coefficient[i])) : loaded;
      },
      [&](int i, V mixed) HWY_ATTR { v[i] = kGather ? mixed : hn::Mul(mixed, hn::Set(d, pass.coefficient[i])); });
}

/// Loads columns [0, kGroup) of the rows at `src` with the row round applied into work[channel][row].
template <bool kGather, int kBlock, typename T, typename In>
HWY_INLINE void load_tile(const BlockPass<T>& pass, const In* const* src, T* HWY_RESTRICT work) {
  const TagOf<T> d;
#pragma GCC unroll 1
  for (int c = 0; c < kGroup; c += kLanesOf<T>) {
    VecOf<decltype(d)> v[kGroup];
    load_rows<kGather, kBlock>(d, pass, src, c, v);
#pragma GCC unroll 16
    for (int row = 0; row < kGroup; row += kLanesOf<T>) {
      transpose(d, v + row);
#pragma GCC unroll 16
      for (int i = 0; i < kLanesOf<T>; ++i) hn::Store(v[row + i], d, work + (c + i) * kGroup + row);
    }
  }
}

/// The number of channels from c on, at most a group.
template <typename T>
HWY_INLINE int group_size(const BlockPass<T>& pass, int64_t c) {
  return static_cast<int>(std::min<int64_t>(kGroup, pass.channels - c));
}

/// Channels [c, c + size), a group or what is left for the last one.
struct ChannelGroup {
  int64_t c;
  int size;
};

/// Scatters one group of channels. `read(i)` returns the vectors of channel c + i.
template <int kBlock, class D, typename T, class Read>
HWY_INLINE void scatter_channels(D d, const ChannelRound<T>& round, ChannelGroup group, const Read& read,
                                 T* HWY_RESTRICT to) {
  using V = VecOf<D>;
  const int64_t c = group.c;
  butterfly<kBlock, V>(group.size, round.block, read, [&](int i, V v) HWY_ATTR {
    hn::Store(hn::Mul(v, hn::Set(d, round.coefficient[c + i])), d, to + size_t{round.source[c + i]} * kGroup);
  });
}

/// Prefetches columns from `offset` on of the rows that the next pass reads.
template <typename In, typename T>
HWY_INLINE void prefetch_ahead(const BlockPass<T>& pass, int64_t offset) {
#pragma GCC unroll 16
  for (int i = 0; i < kGroup; ++i) __builtin_prefetch(static_cast<const In*>(pass.ahead[i]) + offset);
}

/// Calls `tile(c, src)` for every group of channels. `src` holds the addresses of sixteen rows of sixteen columns. Rows
/// and channels that do not fill a group are copied into a zeroed tile.
template <typename In, typename T, class Tile>
HWY_INLINE void for_each_loaded_tile(const BlockPass<T>& pass, const Tile& tile) {
  ColumnWalk walk(pass.src_columns), ahead(pass.ahead_columns);
  for (int64_t c = 0; c < pass.channels; c += kGroup, walk.next(), ahead.next()) {
    const In* src[kGroup];
    const int columns = group_size(pass, c);
    prefetch_ahead<In>(pass, ahead.offset());
    if (pass.rows == kGroup && columns == kGroup) {
      for (int i = 0; i < kGroup; ++i) src[i] = static_cast<const In*>(pass.src[i]) + walk.offset();
      tile(c, src);
    } else {
      alignas(64) In part[kGroup][kGroup] = {};
      for (int i = 0; i < kGroup; ++i) src[i] = part[i];
      for (int i = 0; i < pass.rows; ++i)
        std::memcpy(part[i], static_cast<const In*>(pass.src[i]) + walk.offset(),
                    static_cast<size_t>(columns) * sizeof(In));
      tile(c, src);
    }
  }
}

/// Loads src into work[channel][row], with the row round applied.
template <bool kGather, typename In, typename T>
void load_block(const BlockPass<T>& pass, T* HWY_RESTRICT work) {
  with_block(pass.rows, pass.row_block, [&](auto kind) HWY_ATTR {
    for_each_loaded_tile<In>(pass, [&](int64_t c, const In* const* src)
                                       HWY_ATTR { load_tile<kGather, kind>(pass, src, work + c * kGroup); });
  });
}

/// Like load_block, with the first scattering round included. If a vector holds a whole group, its channels are in
/// registers already.
template <typename In, typename T>
void load_and_scatter(const BlockPass<T>& pass, const ChannelRound<T>& round, T* HWY_RESTRICT to) {
  static_assert(kLanesOf<T> == kGroup);
  const TagOf<T> d;
  with_block(pass.rows, pass.row_block, [&](auto row_kind) HWY_ATTR {
    for_each_loaded_tile<In>(pass, [&](int64_t c, const In* const* src) HWY_ATTR {
      const int size = group_size(pass, c);
      with_block(size, round.block, [&](auto kind) HWY_ATTR {
        VecOf<decltype(d)> v[kGroup];
        load_rows<false, row_kind>(d, pass, src, 0, v);
        transpose(d, v);
        scatter_channels<kind>(
            d, round, ChannelGroup{c, size}, [&](int i) HWY_ATTR { return v[i]; }, to);
      });
    });
  });
}

/// Gathers lanes [row, row + lanes) of one group of channels and passes each to `use(i, vector of channel c + i)`.
template <int kBlock, class D, typename T, class Use>
HWY_INLINE void gather_channels(D d, const ChannelRound<T>& round, ChannelGroup group, const T* HWY_RESTRICT from,
                                const Use& use) {
  const int64_t c = group.c;
  butterfly<kBlock, VecOf<D>>(
      group.size, round.block,
      [&](int i) HWY_ATTR {
        return hn::Mul(hn::Load(d, from + size_t{round.source[c + i]} * kGroup), hn::Set(d, round.coefficient[c + i]));
      },
      use);
}

/// A gathering channel round from one work buffer to the other.
template <typename T>
void gather_round(const BlockPass<T>& pass, const ChannelRound<T>& round, const T* HWY_RESTRICT from,
                  T* HWY_RESTRICT to) {
  const TagOf<T> d;
  for (int64_t c = 0; c < pass.channels; c += kGroup) {
    const int size = group_size(pass, c);
    with_block(size, round.block, [&](auto kind) HWY_ATTR {
#pragma GCC unroll 1
      for (int row = 0; row < kGroup; row += kLanesOf<T>) {
        gather_channels<kind>(d, round, ChannelGroup{c, size}, from + row, [&](int i, VecOf<decltype(d)> v) HWY_ATTR {
          hn::Store(v, d, to + (c + i) * kGroup + row);
        });
      }
    });
  }
}

/// A scattering channel round from one work buffer to the other.
template <typename T>
void scatter_round(const BlockPass<T>& pass, const ChannelRound<T>& round, const T* HWY_RESTRICT from,
                   T* HWY_RESTRICT to) {
  const TagOf<T> d;
  for (int64_t c = 0; c < pass.channels; c += kGroup) {
    const int size = group_size(pass, c);
    with_block(size, round.block, [&](auto kind) HWY_ATTR {
#pragma GCC unroll 1
      for (int row = 0; row < kGroup; row += kLanesOf<T>) {
        scatter_channels<kind>(
            d, round, ChannelGroup{c, size}, [&](int i) HWY_ATTR { return hn::Load(d, from + (c + i) * kGroup + row); },
            to + row);
      }
    });
  }
}

/// Transposes lanes [row, row + lanes) of one group of channels back and stores them to columns [0, kGroup) of the rows
/// at `dst`, one whole row at a time, so that whole lines go past the caches.
template <Put kPut, class D, typename Out>
HWY_INLINE void store_tile(D d, VecOf<D> (&v)[kGroup], Out* const* dst) {
  constexpr int kLanes = kLanesOf<hn::TFromD<D>>;
#pragma GCC unroll 16
  for (int c = 0; c < kGroup; c += kLanes) transpose(d, v + c);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
#pragma GCC unroll 16
    for (int c = 0; c < kGroup; c += kLanes) put<kPut>(d, v[c + i], dst[i] + c);
}

/// Calls `tile(c, dst)` for every group of channels. `dst` holds the addresses of sixteen rows of sixteen columns. Rows
/// and channels that do not fill a group go through a tile on the stack.
template <typename Out, typename T, class Tile>
HWY_INLINE void for_each_stored_tile(const BlockPass<T>& pass, const Tile& tile) {
  ColumnWalk walk(pass.dst_columns);
  for (int64_t c = 0; c < pass.channels; c += kGroup, walk.next()) {
    Out* dst[kGroup];
    const int columns = group_size(pass, c);
    if (pass.rows == kGroup && columns == kGroup) {
      for (int i = 0; i < kGroup; ++i) dst[i] = static_cast<Out*>(pass.dst[i]) + walk.offset();
      tile(c, dst);
    } else {
      alignas(64) Out part[kGroup][kGroup] = {};
      for (int i = 0; i < kGroup; ++i) dst[i] = part[i];
      for (int i = 0; pass.accumulate && i < pass.rows; ++i)
        std::memcpy(part[i], static_cast<const Out*>(pass.dst[i]) + walk.offset(),
                    static_cast<size_t>(columns) * sizeof(Out));
      tile(c, dst);
      for (int i = 0; i < pass.rows; ++i)
        std::memcpy(static_cast<Out*>(pass.dst[i]) + walk.offset(), part[i],
                    static_cast<size_t>(columns) * sizeof(Out));
    }
  }
}

/// Runs the last gathering round and stores its result.
template <typename Out, typename T>
void gather_and_store(const BlockPass<T>& pass, const ChannelRound<T>& round, const T* HWY_RESTRICT from) {
  const TagOf<T> d;
  using V = VecOf<decltype(d)>;
  with_put(pass.stream, false, [&](auto put_kind) HWY_ATTR {
    for_each_stored_tile<Out>(pass, [&](int64_t c, Out* const* dst) HWY_ATTR {
      const int size = group_size(pass, c);
      with_block(size, round.block, [&](auto kind) HWY_ATTR {
#pragma GCC unroll 1
        for (int row = 0; row < kGroup; row += kLanesOf<T>) {
          V v[kGroup];
          gather_channels<kind>(d, round, ChannelGroup{c, size}, from + row,
                                [&](int i, V mixed) HWY_ATTR { v[i] = mixed; });
          store_tile<put_kind>(d, v, dst + row);
        }
      });
    });
  });
}

template <typename T>
void store_block(const BlockPass<T>& pass, const T* HWY_RESTRICT from) {
  const TagOf<T> d;
  with_put(pass.stream, pass.accumulate, [&](auto put_kind) HWY_ATTR {
    for_each_stored_tile<T>(pass, [&](int64_t c, T* const* dst) HWY_ATTR {
#pragma GCC unroll 1
      for (int row = 0; row < kGroup; row += kLanesOf<T>) {
        VecOf<decltype(d)> v[kGroup];
#pragma GCC unroll 16
        for (int i = 0; i < kGroup; ++i) v[i] = hn::Load(d, from + (c + i) * kGroup + row);
        store_tile<put_kind>(d, v, dst + row);
      }
    });
  });
}

/// Runs a row round without channel rounds, for which nothing needs transposing.
template <bool kGather, typename In, typename Out, typename T>
void mix_block(const BlockPass<T>& pass) {
  const Columns &a = pass.src_columns, &b = pass.dst_columns;
  const int64_t width = std::min(a.width, b.width);  // the wider of the two is a multiple of the other, or one run
  int64_t in = 0, out = 0;
  ColumnWalk ahead(pass.ahead_columns);
  for (int64_t c = 0; c < pass.channels; c += width) {
    const In* src[kGroup];
    Out* dst[kGroup];
    for (int i = 0; i < pass.rows; ++i) {
      src[i] = static_cast<const In*>(pass.src[i]) + in;
      dst[i] = static_cast<Out*>(pass.dst[i]) + out;
    }
    for (int64_t line = 0; line < std::min(width, pass.channels - c); line += kGroup, ahead.next())
      prefetch_ahead<In>(pass, ahead.offset());
    mix_group<kGather>(ListedRows<const In>{src}, ListedRows<Out>{dst},
                       GroupRound<T>{pass.coefficient, pass.rows, pass.row_block}, std::min(width, pass.channels - c),
                       {pass.stream, pass.accumulate});
    in += a.width > width ? width : a.stride;
    out += b.width > width ? width : b.stride;
  }
}

template <typename Out, typename T>
void gather_block_as(const BlockPass<T>& pass) {
  if (pass.round_count == 0) return mix_block<true, T, Out>(pass);
  if (only_permutes(pass))
    return permute_block<true, T, Out>(pass, Order<T>{pass.rounds->source, pass.rounds->coefficient});
  T* from = pass.work;
  T* to = pass.work + block_work_elements(pass.channels) / 2;
  load_block<true, T>(pass, from);
  for (int r = 0; r + 1 < pass.round_count; ++r) {
    gather_round(pass, pass.rounds[r], from, to);
    std::swap(from, to);
  }
  gather_and_store<Out>(pass, pass.rounds[pass.round_count - 1], from);
}

template <typename In, typename T>
void scatter_block_as(const BlockPass<T>& pass) {
  if (pass.round_count == 0) return mix_block<false, In, T>(pass);
  if (only_permutes(pass) && pass.rounds->inverse.source != nullptr)
    return permute_block<false, In, T>(pass, Order<T>{pass.rounds->inverse.source, pass.rounds->inverse.coefficient});
  T* from = pass.work;
  T* to = pass.work + block_work_elements(pass.channels) / 2;
  int r = 0;
  if constexpr (kLanesOf<T> == kGroup)
    load_and_scatter<In>(pass, pass.rounds[r++], from);
  else
    load_block<false, In>(pass, from);
  for (; r < pass.round_count; ++r) {
    scatter_round(pass, pass.rounds[r], from, to);
    std::swap(from, to);
  }
  store_block(pass, from);
}

template <typename T>
void gather_block(const BlockPass<T>& pass) noexcept {
  if constexpr (std::is_same_v<T, float>)
    if (pass.dst_bf16) return gather_block_as<BFloat16>(pass);
  gather_block_as<T>(pass);
}

template <typename T>
void scatter_block(const BlockPass<T>& pass) noexcept {
  if constexpr (std::is_same_v<T, float>)
    if (pass.src_bf16) return scatter_block_as<BFloat16>(pass);
  scatter_block_as<T>(pass);
}

}  // namespace HWY_NAMESPACE
}  // namespace tempo::obfuscation::kernels
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
