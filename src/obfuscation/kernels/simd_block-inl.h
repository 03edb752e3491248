// A group of rows at one position, with channel rounds. The group is transposed on the way in, so that a channel is one
// or a few whole vectors: permuting channels is then a choice of addresses, and mixing them the same butterfly as for
// rows. Compiled once per instruction set.
#if defined(TEMPO_SIMD_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TEMPO_SIMD_BLOCK_INL_H_
#undef TEMPO_SIMD_BLOCK_INL_H_
#else
#define TEMPO_SIMD_BLOCK_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "obfuscation/kernels/simd_group-inl.h"
#include "obfuscation/kernels/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation::kernels {
namespace HWY_NAMESPACE {

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

/// Columns [0, kGroup) of the rows at `src`, row round applied, into work[channel][row].
template <bool kGather, int kBlock, typename T, typename In>
HWY_INLINE void load_tile(const BlockPass<T>& pass, const In* const* src, T* HWY_RESTRICT work) {
  const TagOf<T> d;
  using V = VecOf<decltype(d)>;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(decltype(d)()));
#pragma GCC unroll 1
  for (int c = 0; c < kGroup; c += kLanes) {
    V v[kGroup];
#pragma GCC unroll 16
    for (int i = 0; i < kGroup; ++i) {
      v[i] = load(d, src[i] + c);
      if (kGather) v[i] = hn::Mul(v[i], hn::Set(d, pass.coefficient[i]));
    }
    butterfly<kBlock>(v, pass.rows, pass.row_block);
#pragma GCC unroll 16
    for (int i = 0; i < kGroup; ++i)
      if (!kGather) v[i] = hn::Mul(v[i], hn::Set(d, pass.coefficient[i]));
#pragma GCC unroll 16
    for (int row = 0; row < kGroup; row += kLanes) {
      transpose(d, v + row);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) hn::Store(v[row + i], d, work + (c + i) * kGroup + row);
    }
  }
}

/// Starts fetching columns [c, c + kGroup) of the rows that the next pass needs.
template <bool kWrite, typename T>
HWY_INLINE void prefetch_ahead(const BlockPass<T>& pass, int64_t c) {
#pragma GCC unroll 16
  for (int i = 0; i < kGroup; ++i) {
    if (kWrite)
      __builtin_prefetch(static_cast<const T*>(pass.ahead[i]) + c, 1);
    else
      __builtin_prefetch(static_cast<const T*>(pass.ahead[i]) + c, 0);
  }
}

/// src -> work[channel][row]. Rows and channels that do not fill a group come through a zeroed tile.
template <bool kGather, typename T, typename In>
void load_block(const BlockPass<T>& pass, T* HWY_RESTRICT work) {
  with_block(pass.rows, pass.row_block, [&](auto kind) HWY_ATTR {
    ColumnWalk walk(pass.src_columns);
    for (int64_t c = 0; c < pass.channels; c += kGroup, walk.next()) {
      const In* src[kGroup];
      const auto columns = static_cast<size_t>(std::min<int64_t>(kGroup, pass.channels - c));
      if (kGather) prefetch_ahead<!kGather>(pass, c);
      if (pass.rows == kGroup && columns == kGroup) {
        for (int i = 0; i < kGroup; ++i) src[i] = static_cast<const In*>(pass.src[i]) + walk.offset();
        load_tile<kGather, kind>(pass, src, work + c * kGroup);
      } else {
        alignas(64) In tile[kGroup][kGroup] = {};
        for (int i = 0; i < kGroup; ++i) src[i] = tile[i];
        for (int i = 0; i < pass.rows; ++i)
          std::memcpy(tile[i], static_cast<const In*>(pass.src[i]) + walk.offset(), columns * sizeof(In));
        load_tile<kGather, kind>(pass, src, work + c * kGroup);
      }
    }
  });
}

/// Lanes [row, row + lanes) of one group of channels of a gathering round.
template <int kBlock, class D, typename T>
HWY_INLINE void gather_channels(D d, const ChannelRound<T>& round, int64_t c, int size, const T* HWY_RESTRICT from,
                                VecOf<D> (&v)[kGroup]) {
#pragma GCC unroll 16
  for (int i = 0; i < kGroup; ++i)
    v[i] = hn::Mul(hn::Load(d, from + size_t{round.source[c + i]} * kGroup), hn::Set(d, round.coefficient[c + i]));
  butterfly<kBlock>(v, size, round.block);
}

template <typename T>
HWY_INLINE int group_size(const BlockPass<T>& pass, int64_t c) {
  return static_cast<int>(std::min<int64_t>(kGroup, pass.channels - c));
}

/// A gathering channel round from one work buffer to the other.
template <typename T>
void gather_round(const BlockPass<T>& pass, const ChannelRound<T>& round, const T* HWY_RESTRICT from,
                  T* HWY_RESTRICT to) {
  const TagOf<T> d;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(decltype(d)()));
  for (int64_t c = 0; c < pass.channels; c += kGroup) {
    const int size = group_size(pass, c);
    with_block(size, round.block, [&](auto kind) HWY_ATTR {
#pragma GCC unroll 1
      for (int row = 0; row < kGroup; row += kLanes) {
        VecOf<decltype(d)> v[kGroup];
        gather_channels<kind>(d, round, c, size, from + row, v);
#pragma GCC unroll 16
        for (int i = 0; i < kGroup; ++i) hn::Store(v[i], d, to + (c + i) * kGroup + row);
      }
    });
  }
}

/// A scattering channel round from one work buffer to the other.
template <typename T>
void scatter_round(const BlockPass<T>& pass, const ChannelRound<T>& round, const T* HWY_RESTRICT from,
                   T* HWY_RESTRICT to) {
  const TagOf<T> d;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(decltype(d)()));
  for (int64_t c = 0; c < pass.channels; c += kGroup) {
    const int size = group_size(pass, c);
    with_block(size, round.block, [&](auto kind) HWY_ATTR {
#pragma GCC unroll 1
      for (int row = 0; row < kGroup; row += kLanes) {
        VecOf<decltype(d)> v[kGroup];
#pragma GCC unroll 16
        for (int i = 0; i < kGroup; ++i) v[i] = hn::Load(d, from + (c + i) * kGroup + row);
        butterfly<kind>(v, size, round.block);
#pragma GCC unroll 16
        for (int i = 0; i < kGroup; ++i)
          hn::Store(hn::Mul(v[i], hn::Set(d, round.coefficient[c + i])), d,
                    to + size_t{round.source[c + i]} * kGroup + row);
      }
    });
  }
}

/// Lanes [row, row + lanes) of one group of channels, transposed back, to columns [0, kGroup) of the rows at `dst`.
template <class D, typename Out>
HWY_INLINE void store_tile(D d, VecOf<D> (&v)[kGroup], Out* const* dst) {
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
#pragma GCC unroll 16
  for (int c = 0; c < kGroup; c += kLanes) {
    transpose(d, v + c);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) { if constexpr(sizeof(Out)==sizeof(hn::TFromD<D>)) hn::Stream(v[c+i], d, dst[i] + c); else store(d, v[c + i], dst[i] + c);}
  }
}

/// Calls `tile(c, dst)` for every group of channels; dst are the addresses of sixteen rows of sixteen columns.
/// What does not fill a group goes through a tile of its own.
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
      alignas(64) Out part[kGroup][kGroup];
      for (int i = 0; i < kGroup; ++i) dst[i] = part[i];
      tile(c, dst);
      for (int i = 0; i < pass.rows; ++i)
        std::memcpy(static_cast<Out*>(pass.dst[i]) + walk.offset(), part[i], static_cast<size_t>(columns) * sizeof(Out));
    }
  }
}

/// The last gathering round, on its way out.
template <typename Out, typename T>
void gather_and_store(const BlockPass<T>& pass, const ChannelRound<T>& round, const T* HWY_RESTRICT from) {
  const TagOf<T> d;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(decltype(d)()));
  for_each_stored_tile<Out>(pass, [&](int64_t c, Out* const* dst) HWY_ATTR {
    const int size = group_size(pass, c);
    with_block(size, round.block, [&](auto kind) HWY_ATTR {
#pragma GCC unroll 1
      for (int row = 0; row < kGroup; row += kLanes) {
        VecOf<decltype(d)> v[kGroup];
        gather_channels<kind>(d, round, c, size, from + row, v);
        store_tile(d, v, dst + row);
      }
    });
  });
}

template <typename T>
void store_block(const BlockPass<T>& pass, const T* HWY_RESTRICT from) {
  const TagOf<T> d;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(decltype(d)()));
  for_each_stored_tile<T>(pass, [&](int64_t c, T* const* dst) HWY_ATTR {
#pragma GCC unroll 1
    for (int row = 0; row < kGroup; row += kLanes) {
      VecOf<decltype(d)> v[kGroup];
#pragma GCC unroll 16
      for (int i = 0; i < kGroup; ++i) v[i] = hn::Load(d, from + (c + i) * kGroup + row);
      store_tile(d, v, dst + row);
    }
  });
}

/// Without channel rounds nothing needs transposing.
template <bool kGather, typename In, typename Out, typename T>
void mix_block(const BlockPass<T>& pass) {
  const Columns &a = pass.src_columns, &b = pass.dst_columns;
  const int64_t width = std::min(a.width, b.width);  // the wider of the two is a multiple of the other, or one run
  int64_t in = 0, out = 0;
  for (int64_t c = 0; c < pass.channels; c += width) {
    const In* src[kGroup];
    Out* dst[kGroup];
    for (int i = 0; i < pass.rows; ++i) {
      src[i] = static_cast<const In*>(pass.src[i]) + in;
      dst[i] = static_cast<Out*>(pass.dst[i]) + out;
    }
    mix_group<kGather>(ListedRows<const In>{src}, ListedRows<Out>{dst}, pass.coefficient, pass.rows, pass.row_block, std::min(width, pass.channels - c));
    in += a.width > width ? width : a.stride;
    out += b.width > width ? width : b.stride;
  }
}

template <typename Out, typename T>
void gather_block_as(const BlockPass<T>& pass) {
  if (pass.round_count == 0) return mix_block<true, T, Out>(pass);
  T* from = pass.work;
  T* to = pass.work + block_work_elements(pass.channels) / 2;
  load_block<true, T, T>(pass, from);
  for (int r = 0; r + 1 < pass.round_count; ++r) {
    gather_round(pass, pass.rounds[r], from, to);
    std::swap(from, to);
  }
  gather_and_store<Out>(pass, pass.rounds[pass.round_count - 1], from);
}

template <typename In, typename T>
void scatter_block_as(const BlockPass<T>& pass) {
  if (pass.round_count == 0) return mix_block<false, In, T>(pass);
  T* from = pass.work;
  T* to = pass.work + block_work_elements(pass.channels) / 2;
  load_block<false, T, In>(pass, from);
  for (int r = 0; r < pass.round_count; ++r) {
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
