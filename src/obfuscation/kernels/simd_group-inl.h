// Operations on sixteen vectors at a time: load, butterfly, transpose, store. Compiled once for each instruction set
// (Highway's idiom, hence the toggled guard instead of #pragma once).
#include <cstring>
#include <type_traits>

#if defined(TEMPO_SIMD_GROUP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TEMPO_SIMD_GROUP_INL_H_
#undef TEMPO_SIMD_GROUP_INL_H_
#else
#define TEMPO_SIMD_GROUP_INL_H_
#endif

#include "hwy/highway.h"
#include "obfuscation/kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// A vector of a group. Lane l of vector i is column l of row i, or the transpose. The loops below have constant bounds
/// and are unrolled, so that a group lies in registers.
template <class D>
using VecOf = hn::Vec<D>;

/// Vectors that never have more lanes than a group has rows.
template <typename T>
using TagOf = hn::CappedTag<T, kGroup>;

template <class D, typename In>
HWY_INLINE VecOf<D> load(D d, const In* from) {
  using T = hn::TFromD<D>;
  if constexpr (sizeof(In) == sizeof(T)) {
    return hn::LoadU(d, from);
  } else {
    const hn::Rebind<uint32_t, D> d32;
    const hn::Rebind<uint16_t, D> d16;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, from))));
  }
}

/// @param stream writes past the caches; `to` must be aligned, and the caller must fence.
template <class D, typename Out>
HWY_INLINE void store(D d, VecOf<D> v, Out* to, bool stream) {
  using T = hn::TFromD<D>;
  if constexpr (sizeof(Out) == sizeof(T)) {
    if (stream)
      hn::Stream(v, d, to);
    else
      hn::StoreU(v, d, to);
  } else {
    // Round to nearest even; a NaN is made quiet instead, so that rounding cannot carry it into infinity.
    const hn::Rebind<uint32_t, D> d32;
    const hn::Rebind<uint16_t, D> d16;
    const auto bits = hn::BitCast(d32, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(hn::Set(d32, 0x7fffu), odd)));
    const auto quiet = hn::ShiftRight<16>(hn::Or(bits, hn::Set(d32, 0x400000u)));
    const auto is_nan = hn::RebindMask(d32, hn::IsNaN(v));
    hn::StoreU(hn::TruncateTo(d16, hn::IfThenElse(is_nan, quiet, rounded)), d16, to);
  }
}

/// How results go to memory.
enum class Put { kStore, kStream, kAdd };

template <Put kPut, class D, typename Out>
HWY_INLINE void put(D d, VecOf<D> v, Out* to) {
  if constexpr (kPut == Put::kAdd) v = hn::Add(v, load(d, to));
  store(d, v, to, kPut == Put::kStream);
}

/// Calls `body` with the kind of put as a compile-time constant, because a branch for every vector would cost.
template <class Body>
HWY_INLINE void with_put(bool stream, bool accumulate, const Body& body) {
  if (accumulate)
    body(std::integral_constant<Put, Put::kAdd>());
  else if (stream)
    body(std::integral_constant<Put, Put::kStream>());
  else
    body(std::integral_constant<Put, Put::kStore>());
}

/// Like round_coefficients(), for a whole group. Does the same operations, so gives the same bits.
template <typename T>
HWY_INLINE void group_coefficients(const float* HWY_RESTRICT scale, bool divide, uint32_t block,
                                   T* HWY_RESTRICT coefficient) {
  const TagOf<T> d;
  const hn::Rebind<float, decltype(d)> d_scale;
  const auto norm = hn::Set(d, hadamard_norm<T>(block));
  for (size_t i = 0; i < kGroup; i += hn::Lanes(d)) {
    VecOf<decltype(d)> v;
    if constexpr (std::is_same_v<T, float>)
      v = hn::LoadU(d, scale + i);
    else
      v = hn::PromoteTo(d, hn::LoadU(d_scale, scale + i));
    if (divide) v = hn::Div(hn::Set(d, T(1)), v);
    hn::StoreU(hn::Mul(v, norm), d, coefficient + i);
  }
}

/// One butterfly stage over pairs `kHalf` apart among kCount vectors.
template <int kHalf, int kCount, class V>
HWY_INLINE void butterfly_stage(V* v) {
#pragma GCC unroll 16
  for (int pair = 0; pair < kCount / 2; ++pair) {
    const int i = pair / kHalf * 2 * kHalf + pair % kHalf;
    const V a = v[i], b = v[i + kHalf];
    v[i] = hn::Add(a, b);
    v[i + kHalf] = hn::Sub(a, b);
  }
}

/// The kinds of butterfly blocks with their own code: none, whole groups, and all others.
constexpr int kNoBlock = 1, kWholeBlock = kGroup, kAnyBlock = 0;

/// Passes vectors `read(i)`, i in 0..15, through a butterfly to `use(i, result)`. `size` and `block` matter only for
/// kAnyBlock: a pair of halves lies within one block if and only if it fits below `size`. Whole groups are processed
/// half by half, so that sixteen registers are nearly enough; the order of additions is the same.
template <int kBlock, class V, class Read, class Use>
HWY_INLINE void butterfly(int size, uint32_t block, const Read& read, const Use& use) {
  V v[kGroup];
  if constexpr (kBlock == kWholeBlock) {
    constexpr int kHalf = kGroup / 2;
#pragma GCC unroll 2
    for (int half = 0; half < kGroup; half += kHalf) {
#pragma GCC unroll 16
      for (int i = 0; i < kHalf; ++i) v[half + i] = read(half + i);
      butterfly_stage<1, kHalf>(v + half);
      butterfly_stage<2, kHalf>(v + half);
      butterfly_stage<4, kHalf>(v + half);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) {
      const V a = v[i], b = v[i + kHalf];
      use(i, hn::Add(a, b));
      use(i + kHalf, hn::Sub(a, b));
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kGroup; ++i) v[i] = read(i);
    if constexpr (kBlock == kAnyBlock)
      for (int half = 1; half < static_cast<int>(block); half *= 2)
        for (int j = 0; j + 2 * half <= size; j += 2 * half)
          for (int i = j; i < j + half; ++i) {
            const V a = v[i], b = v[i + half];
            v[i] = hn::Add(a, b);
            v[i + half] = hn::Sub(a, b);
          }
#pragma GCC unroll 16
    for (int i = 0; i < kGroup; ++i) use(i, v[i]);
  }
}

/// Calls `body` with the kind of butterfly that `size` entries in blocks of `block` need, as a compile-time constant.
template <class Body>
HWY_INLINE void with_block(int size, uint32_t block, const Body& body) {
  if (block == 1)
    body(std::integral_constant<int, kNoBlock>());
  else if (block == kGroup && size == kGroup)
    body(std::integral_constant<int, kWholeBlock>());
  else
    body(std::integral_constant<int, kAnyBlock>());
}

#if HWY_TARGET <= HWY_AVX3
/// Blocks (x, y) of a, then (x, y) of b. kChoice is 0x88 for the even blocks and 0xdd for the odd ones.
template <int kChoice>
HWY_INLINE hn::Vec512<float> shuffle_blocks(hn::Vec512<float> a, hn::Vec512<float> b) {
  return hn::Vec512<float>{_mm512_shuffle_f32x4(a.raw, b.raw, kChoice)};
}
template <int kChoice>
HWY_INLINE hn::Vec512<double> shuffle_blocks(hn::Vec512<double> a, hn::Vec512<double> b) {
  return hn::Vec512<double>{_mm512_shuffle_f64x2(a.raw, b.raw, kChoice)};
}
#endif

/// Transposes 128-bit blocks: vectors i, i + kStep, i + 2 kStep.. of v (as many as a vector has blocks), in place.
template <int kBlocks, int kStep, class D>
HWY_INLINE void transpose_blocks(D d, VecOf<D>* v) {
  using V = VecOf<D>;
  if constexpr (kBlocks == 2) {
    const V a = v[0], b = v[kStep];
    v[0] = hn::ConcatLowerLower(d, b, a);
    v[kStep] = hn::ConcatUpperUpper(d, b, a);
  } else if constexpr (kBlocks == 4) {
    const V a = v[0], b = v[kStep], c = v[2 * kStep], e = v[3 * kStep];
#if HWY_TARGET <= HWY_AVX3
    // This takes two shuffles for each result; the portable way below takes three instructions.
    const V ab_even = shuffle_blocks<0x88>(a, b), ab_odd = shuffle_blocks<0xdd>(a, b);
    const V ce_even = shuffle_blocks<0x88>(c, e), ce_odd = shuffle_blocks<0xdd>(c, e);
    v[0] = shuffle_blocks<0x88>(ab_even, ce_even);
    v[kStep] = shuffle_blocks<0x88>(ab_odd, ce_odd);
    v[2 * kStep] = shuffle_blocks<0xdd>(ab_even, ce_even);
    v[3 * kStep] = shuffle_blocks<0xdd>(ab_odd, ce_odd);
    return;
#endif
    const V ac_low = hn::ConcatLowerLower(d, c, a), be_low = hn::ConcatLowerLower(d, e, b);
    const V ac_high = hn::ConcatUpperUpper(d, c, a), be_high = hn::ConcatUpperUpper(d, e, b);
    v[0] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(be_low), ac_low);
    v[kStep] = hn::OddEvenBlocks(be_low, hn::SwapAdjacentBlocks(ac_low));
    v[2 * kStep] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(be_high), ac_high);
    v[3 * kStep] = hn::OddEvenBlocks(be_high, hn::SwapAdjacentBlocks(ac_high));
  }
}

/// Transposes the square of v[0 .. lanes) in place.
template <class D>
HWY_INLINE void transpose(D d, VecOf<D>* v) {
  using T = hn::TFromD<D>;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
  constexpr int kInBlock = kLanes < 16 / static_cast<int>(sizeof(T)) ? kLanes : 16 / static_cast<int>(sizeof(T));
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += kInBlock) {
    if constexpr (kInBlock == 2) {
      const auto a = v[i], b = v[i + 1];
      v[i] = hn::InterleaveLower(d, a, b);
      v[i + 1] = hn::InterleaveUpper(d, a, b);
    } else if constexpr (kInBlock == 4) {
      const hn::RepartitionToWide<D> wide;
      const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(d, v[i], v[i + 1]));
      const auto ab_high = hn::BitCast(wide, hn::InterleaveUpper(d, v[i], v[i + 1]));
      const auto cd_low = hn::BitCast(wide, hn::InterleaveLower(d, v[i + 2], v[i + 3]));
      const auto cd_high = hn::BitCast(wide, hn::InterleaveUpper(d, v[i + 2], v[i + 3]));
      v[i] = hn::BitCast(d, hn::InterleaveLower(wide, ab_low, cd_low));
      v[i + 1] = hn::BitCast(d, hn::InterleaveUpper(wide, ab_low, cd_low));
      v[i + 2] = hn::BitCast(d, hn::InterleaveLower(wide, ab_high, cd_high));
      v[i + 3] = hn::BitCast(d, hn::InterleaveUpper(wide, ab_high, cd_high));
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < kInBlock; ++j) transpose_blocks<kLanes / kInBlock, kInBlock>(d, v + j);
}

}  // namespace HWY_NAMESPACE
}  // namespace tempo::obfuscation::kernels
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
