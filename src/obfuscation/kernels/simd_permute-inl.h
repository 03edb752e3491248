// Processes a group of rows at one position under keys that mix nothing: rows and channels change places and are
// scaled. Each row is read once, in the order of the channels that it goes to. Compiled once for each instruction set.
#if defined(TEMPO_SIMD_PERMUTE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TEMPO_SIMD_PERMUTE_INL_H_
#undef TEMPO_SIMD_PERMUTE_INL_H_
#else
#define TEMPO_SIMD_PERMUTE_INL_H_
#endif

#include <type_traits>

#include "obfuscation/kernels/simd_group-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation::kernels {
namespace HWY_NAMESPACE {

/// Says where channel c of a written row comes from, whether the round gathers or scatters.
template <typename T>
struct Order {
  const uint32_t* source = nullptr;
  const T* coefficient = nullptr;
};

/// Returns a vector whose lane i is src[source[i]].
template <class D, typename In>
HWY_INLINE VecOf<D> pick(D d, const In* HWY_RESTRICT src, const uint32_t* HWY_RESTRICT source) {
  using T = hn::TFromD<D>;
  if constexpr (!std::is_same_v<In, T>) {
    alignas(64) In picked[kGroup];
    for (size_t i = 0; i < hn::Lanes(d); ++i) picked[i] = src[source[i]];
    return load(d, picked);
#if HWY_TARGET == HWY_AVX2
  } else if constexpr (std::is_same_v<T, float> && hn::MaxLanes(D()) == 8) {
    // Eight loads are faster than the gather instruction of the CPUs that have no wider vectors.
    const auto at = [=](int i) HWY_ATTR { return src[source[i]]; };
    return VecOf<D>{_mm256_setr_ps(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7))};
#endif
  } else {
    const hn::RebindToSigned<D> d_index;
    const auto narrow = hn::LoadU(hn::Rebind<uint32_t, D>(), source);
    if constexpr (sizeof(T) == sizeof(uint32_t))
      return hn::GatherIndex(d, src, hn::BitCast(d_index, narrow));
    else
      return hn::GatherIndex(d, src, hn::BitCast(d_index, hn::PromoteTo(hn::Rebind<uint64_t, D>(), narrow)));
  }
}

/// The RowProducts of one row, lane by lane. With a count of zero nothing is computed.
template <int kCount, class D>
struct RowSums {
  VecOf<D> of[kCount + 1];

  explicit HWY_INLINE RowSums(D d) {
    for (auto& sum : of) sum = hn::Zero(d);
  }
  template <typename T>
  HWY_INLINE void add(D d, VecOf<D> v, const T* HWY_RESTRICT vectors, int64_t channels, int64_t c) {
    if constexpr (kCount > 0) {
      for (int j = 0; j < kCount; ++j) of[j] = hn::MulAdd(v, hn::LoadU(d, vectors + j * channels + c), of[j]);
      of[kCount] = hn::MulAdd(v, v, of[kCount]);
    }
  }
};

/// Where one row is read and written.
template <typename In, typename Out, typename T>
struct MovedRow {
  const In* src;
  const T* addend;  ///< added to what dst gets; read only with kAddend
  Out* dst;
};

/// Writes columns [c, c + lanes) of dst = row * coefficient * src[source] (+ addend). @returns the values that the
/// image has: the picked ones when gathering, the scaled ones when scattering.
template <Put kPut, bool kGather, bool kAddend, class D, typename In, typename Out, typename T>
HWY_INLINE VecOf<D> permute_vector(D d, MovedRow<In, Out, T> moved, const Order<T>& order, VecOf<D> row, int64_t c) {
  const In* const HWY_RESTRICT src = moved.src;
  const T* const HWY_RESTRICT addend = moved.addend;
  Out* const dst = moved.dst;
  const VecOf<D> v = pick(d, src, order.source + c);
  const VecOf<D> scaled = hn::Mul(hn::Mul(v, row), hn::LoadU(d, order.coefficient + c));
  if constexpr (kAddend)
    put<kPut>(d, hn::Add(scaled, hn::LoadU(d, addend + c)), dst + c);
  else
    put<kPut>(d, scaled, dst + c);
  return kGather ? v : scaled;
}

/// This many bytes of rows are prefetched: far enough ahead for memory to answer, and few enough for the first-level
/// cache.
constexpr int64_t kFetchedBytes = 8192;

/// What permute_rows does besides moving rows.
enum class Beside { kNothing, kAddend, kColumns, kMoments };

template <bool kGather, Beside kBeside, Put kPut, int kCount, typename In, typename Out, typename T>
HWY_INLINE void permute_rows(const BlockPass<T>& pass, const Order<T> order) {
  constexpr bool kAddend = kBeside == Beside::kAddend, kColumns = kBeside == Beside::kColumns;
  constexpr bool kMoments = kBeside == Beside::kMoments;
  // Local copies: for all that the compiler knows, a store could change the pass, which would then be read again each
  // time.
  const int64_t channels = pass.channels;
  const T* const vectors = pass.products.vectors;
  const TagOf<T> d;
  const hn::CappedTag<T, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(In));
  const auto row_bytes = channels * static_cast<int64_t>(sizeof(In));
  const auto rows_ahead = static_cast<int>(std::clamp<int64_t>(kFetchedBytes / row_bytes, 1, kGroup));
  constexpr Put kPutOne = kPut == Put::kStream ? Put::kStore : kPut;
  for (int i = 0; i < pass.rows; ++i) {
    const int later = pass.fetches_all_ahead ? i + kGroup : i + rows_ahead;
    // The rows that jump around in memory are those that are read; if the wire is read in order, those that are added.
    using Jumping = std::conditional_t<kAddend, T, In>;
    const void* const next = kAddend ? pass.addend[later % kGroup] : pass.src[later % kGroup];
    const auto* const ahead = static_cast<const Jumping*>(later < pass.rows ? next : pass.ahead[later % kGroup]);
    const MovedRow<In, Out, T> moved{static_cast<const In*>(pass.src[i]), kAddend ? pass.addend[i] : nullptr,
                                     static_cast<Out*>(pass.dst[i])};
    const auto row = hn::Set(d, pass.coefficient[i]);
    const auto row1 = hn::Set(d1, pass.coefficient[i]);
    RowSums<kCount, decltype(d)> sums(d);
    RowSums<kCount, decltype(d1)> sums1(d1);
    const T weight = kColumns && pass.image_row[i] >= 0 ? pass.products.weights[pass.image_row[i]] : T(0);
    T* const HWY_RESTRICT columns = kColumns ? pass.products.column_sums : nullptr;
    T* const HWY_RESTRICT moment_sum = kMoments ? pass.moments.sum : nullptr;
    T* const HWY_RESTRICT moment_squares = kMoments ? pass.moments.squares : nullptr;
    const T* const shift = kMoments ? pass.moments.shift : nullptr;
    // A dropped row may hold anything, even NaNs: it is masked, not multiplied by zero.
    const T counts = kMoments && pass.image_row[i] >= 0 ? T(1) : T(0);
    const auto take = [&](auto tag, auto& row_sums, auto v, int64_t at) HWY_ATTR {
      row_sums.add(tag, v, vectors, channels, at);
      if constexpr (kMoments) {
        const auto is_counted = hn::Ne(hn::Set(tag, counts), hn::Zero(tag));
        const auto above = hn::IfThenElseZero(is_counted, hn::Sub(v, hn::LoadU(tag, shift + at)));
        hn::StoreU(hn::Add(hn::LoadU(tag, moment_sum + at), above), tag, moment_sum + at);
        hn::StoreU(hn::MulAdd(above, above, hn::LoadU(tag, moment_squares + at)), tag, moment_squares + at);
      }
      if constexpr (kColumns)
        hn::StoreU(hn::MulAdd(v, hn::Set(tag, weight), hn::LoadU(tag, columns + at)), tag, columns + at);
    };
    const auto move = [&](int64_t at) HWY_ATTR {
      take(d, sums, permute_vector<kPut, kGather, kAddend>(d, moved, order, row, at), at);
    };
    int64_t c = 0;
    for (; c + kLine <= channels; c += kLine) {
      __builtin_prefetch(ahead + c);
      for (int64_t at = c; at < c + kLine; at += lanes) move(at);
    }
    if (c < channels) __builtin_prefetch(ahead + c);
    for (; c + lanes <= channels; c += lanes) move(c);
    for (; c < channels; ++c) take(d1, sums1, permute_vector<kPutOne, kGather, kAddend>(d1, moved, order, row1, c), c);
    if constexpr (kCount > 0) {
      if (pass.image_row[i] < 0) continue;
      T* const plane = pass.products.planes + pass.image_row[i];
      for (int j = 0; j <= kCount; ++j)
        plane[j * pass.products.pitch] = hn::GetLane(hn::SumOfLanes(d, sums.of[j])) + hn::GetLane(sums1.of[j]);
    }
  }
}

/// Processes a group whose row and channel rounds both have blocks of one. Only what callers can ask for is compiled:
/// gathered rows are never added to anything, and nothing is computed of rows that accumulate.
template <bool kGather, typename In, typename Out, typename T>
void permute_block(const BlockPass<T>& pass, const Order<T>& order) {
  const auto with_count = [&](auto beside, auto kind) HWY_ATTR {
    constexpr Beside kBeside = beside;
    constexpr Put kPut = kind;
    switch (pass.products.count) {
      case 0:
        return permute_rows<kGather, kBeside, kPut, 0, In, Out>(pass, order);
      case 1:
        if constexpr (kGather)
          if (pass.products.weights != nullptr)
            return permute_rows<kGather, Beside::kColumns, kPut, 1, In, Out>(pass, order);
        return permute_rows<kGather, kBeside, kPut, 1, In, Out>(pass, order);
      default:
        return permute_rows<kGather, kBeside, kPut, 2, In, Out>(pass, order);
    }
  };
  const auto stored = [&](auto beside) HWY_ATTR {
    if constexpr (std::is_same_v<Out, T>)
      if (pass.stream) return with_count(beside, std::integral_constant<Put, Put::kStream>());
    with_count(beside, std::integral_constant<Put, Put::kStore>());
  };
  if constexpr (!kGather) {
    if (pass.accumulate) return permute_rows<kGather, Beside::kNothing, Put::kAdd, 0, In, Out>(pass, order);
    if (pass.has_addends) return stored(std::integral_constant<Beside, Beside::kAddend>());
    if (pass.moments.sum != nullptr) return stored(std::integral_constant<Beside, Beside::kMoments>());
  }
  stored(std::integral_constant<Beside, Beside::kNothing>());
}

template <int kCount, typename T>
void take_row(const T* HWY_RESTRICT row, int64_t channels, const RowProducts<T>& products, int64_t image_row) {
  const TagOf<T> d;
  const hn::CappedTag<T, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  RowSums<kCount, decltype(d)> sums(d);
  RowSums<kCount, decltype(d1)> sums1(d1);
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) sums.add(d, hn::LoadU(d, row + c), products.vectors, channels, c);
  for (; c < channels; ++c) sums1.add(d1, hn::LoadU(d1, row + c), products.vectors, channels, c);
  for (int j = 0; j <= kCount; ++j)
    products.planes[image_row + j * products.pitch] =
        hn::GetLane(hn::SumOfLanes(d, sums.of[j])) + hn::GetLane(sums1.of[j]);
}

template <typename T>
void take_products(const T* row, int64_t channels, const RowProducts<T>& products, int64_t image_row) noexcept {
  products.count == 1 ? take_row<1>(row, channels, products, image_row)
                      : take_row<2>(row, channels, products, image_row);
}

/// Whether permute_block can run the pass. `round` must be given in the order of what is written.
template <typename T>
HWY_INLINE bool only_permutes(const BlockPass<T>& pass) {
  return pass.row_block == 1 && pass.round_count == 1 && pass.rounds->block == 1 &&
         pass.src_columns.width >= pass.channels && pass.dst_columns.width >= pass.channels;
}

}  // namespace HWY_NAMESPACE
}  // namespace tempo::obfuscation::kernels
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
