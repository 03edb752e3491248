/// The inner loops of blinding, one table of functions for each instruction set. The kernels take pointers and sizes,
/// and neither allocate, check nor log; blind.cpp checks shapes once. README.md is the map of this folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace tempo::obfuscation::kernels {

/// Rows (and channels) are processed in groups of sixteen. Butterfly blocks are powers of two and start at multiples of
/// their size, so a block of up to 16 lies within one group. Blocks of rows may be as large as a section: groups are
/// then mixed within themselves, and with one another by `mix_wide`.
constexpr int kGroup = 16;
constexpr int kSection = kGroup * kGroup;

/// bfloat16 as stored: the upper half of a float.
using BFloat16 = uint16_t;

/// The number of entries of the Hadamard block that holds entry `i` of `size` entries (key.h: ragged ends use smaller
/// blocks).
inline uint32_t block_at(int64_t i, int64_t size, uint32_t block) {
  int64_t begin = size - size % block;
  if (i < begin) return block;
  for (;;) {
    block /= 2;
    if (size - begin < block) continue;
    if (i < begin + block) return block;
    begin += block;
  }
}

/// The factor that makes a Hadamard matrix of `block` rows orthonormal.
template <typename T>
T hadamard_norm(uint32_t block) {
  return block == 1 ? T(1) : block == kGroup ? T(0.25) : block == kSection ? T(0.0625) : T(1) / std::sqrt(T(block));
}

/// Where the columns of one row lie: column c is (c / width) * stride + c % width elements after the row's first.
/// `width` is a multiple of kGroup, or at least the number of columns.
struct Columns {
  int64_t width = 0;
  int64_t stride = 0;
};

/// One channel round in the form that kernels need. Both arrays are padded to a multiple of kGroup entries (source: its
/// own index, coefficient: zero). A coefficient is the scale, or its reciprocal, times the Hadamard norm.
template <typename T>
struct ChannelRound {
  const uint32_t* source = nullptr;
  const T* coefficient = nullptr;
  uint32_t block = 1;
  /// A scattering round that mixes nothing, written as a gathering one. Kernels may use either.
  struct Inverse {
    const uint32_t* source = nullptr;
    const T* coefficient = nullptr;
  } inverse = {};
};

/// y = x * scale + offset for each channel, and zero where that is negative if `relu`. A NaN stays one.
template <typename T>
struct Affine {
  const T* scale = nullptr;
  const T* offset = nullptr;
  bool relu = false;
};

/// Inner products of the image's rows with a few vectors, and the rows' sums of squares. They are computed while the
/// rows are moved, so that nothing reads the image once more for them.
template <typename T>
struct RowProducts {
  static constexpr int kMost = 2;
  int count = 0;               ///< number of vectors, 1..kMost; 0: nothing is computed
  const T* vectors = nullptr;  ///< [count, channels], in the order of the channels of dst
  T* planes = nullptr;         ///< [count + 1, pitch], indexed by row of the image; sums of squares are last
  int64_t pitch = 0;
  /// When gathering with one vector: weights of a weighted sum of the rows, indexed by row of the image; or nullptr.
  const T* weights = nullptr;
  T* column_sums = nullptr;  ///< [channels], in the order of the channels of dst; sums are added to it
};

/// Sums of (x - shift) and of its square over the image's rows, for a batch's statistics, which then need no pass over
/// the image.
template <typename T>
struct ColumnMoments {
  const T* shift = nullptr;  ///< [channels]
  T* sum = nullptr;          ///< [channels], sums are added to it; or nullptr: nothing is computed
  T* squares = nullptr;
};

/// One group of rows at one position: one row round and all channel rounds, from memory to memory.
///   gather_block   v[i] = coefficient[i] * src[i], butterfly over i; channel rounds gather; dst[i] = v[i]
///   scatter_block  v[i] = coefficient[i] * (butterfly over i of src)[i]; channel rounds scatter; dst[i] = v[i]
/// Channel rounds are listed in the order in which they run.
template <typename T>
struct BlockPass {
  int rows = 0;            ///< 1..kGroup
  uint32_t row_block = 1;  ///< block of the row round within the group, at most kGroup
  bool src_bf16 = false;   ///< src is bfloat16 (only scattering, T = float); else of type T
  bool dst_bf16 = false;   ///< dst is bfloat16 (only gathering, T = float); else of type T
  bool stream = false;  ///< write past the caches; every kGroup channels at dst must be 64-byte aligned and of type T
  bool accumulate = false;  ///< add to dst (only scattering, never with stream); no two rows may share an address
  T coefficient[kGroup];
  const void* src[kGroup];
  void* dst[kGroup];
  /// kGroup rows that the next pass will read, or, if those jump around, add to. They are prefetched; only hints.
  const void* const* ahead = nullptr;
  bool fetches_all_ahead = false;  ///< src is in the caches already: prefetch only `ahead`
  Columns ahead_columns;
  Columns src_columns, dst_columns;
  int64_t channels = 0;
  const ChannelRound<T>* rounds = nullptr;
  int round_count = 0;
  T* work = nullptr;  ///< 64-byte aligned, block_work_elements(channels) elements
  /// Products to compute. Allowed only if the rows and the one channel round have blocks of one, and never with
  /// accumulate.
  RowProducts<T> products = {};
  /// Moments to compute, when scattering under the same conditions and without addends. Counts rows of the image only.
  ColumnMoments<T> moments = {};
  /// The row of the image whose products a row gives. If negative, the row has no products and counts for no sums. Read
  /// only if products or moments are computed.
  int64_t image_row[kGroup];
  /// When scattering under the same conditions: rows that are added to what dst gets, after products are computed.
  /// `ahead` then points at such rows, too.
  bool has_addends = false;
  const T* addend[kGroup];
};

/// The number of elements of BlockPass::work: two transposed copies of the group, channel after channel, each of kGroup
/// rows.
constexpr int64_t block_work_elements(int64_t channels) {
  return 2 * kGroup * ((channels + kGroup - 1) / kGroup * kGroup);
}

/// One row round within groups, over many rows of narrow panels.
///   gather_rows    dst row i = butterfly over i of (coefficient[i] * src row source[i])
///   scatter_rows   dst row source[i] = coefficient[i] * (butterfly over i of src)[i]
/// A panel has `width` columns; panel p of row r starts at r * pitch + p * panel_stride elements. Rows of the side in
/// order (dst when gathering, src when scattering) are counted from the first group of the call.
struct RowPass {
  const void* src = nullptr;
  void* dst = nullptr;
  bool src_bf16 = false, dst_bf16 = false;  ///< as in BlockPass
  int64_t src_pitch = 0, dst_pitch = 0;
  int64_t src_panel_stride = 0, dst_panel_stride = 0;
  int64_t panels = 1, width = 0;
  int64_t last_width = 0;            ///< number of columns of the last panel
  int64_t rows = 0;                  ///< number of rows of the key
  const uint32_t* source = nullptr;  ///< [rows], KeyRound::source
  const float* scale = nullptr;      ///< [rows], KeyRound::scale
  bool divide = false;               ///< whether coefficients are 1 / scale
  uint32_t block = 1;                ///< KeyRound::block; within a group, blocks have kGroup rows at most
  bool stream = false;               ///< as in BlockPass
  /// The permuted side of the next pass, and the row of `source` that it begins with. Prefetched; only a hint.
  const void* ahead = nullptr;
  int64_t ahead_row = 0;
};

/// One row round between groups, in every block of more than one group. The groups lie in a buffer, as gather_rows or
/// gather_block leaves them and scatter_rows or scatter_block needs them. The other side is in order. With G groups in
/// a block, and butterflies over k:
///   gathering   dst row j G + k = butterfly of src row j + 16 k
///   scattering  dst row j + 16 k = butterfly of src row j G + k
/// So the side in order is read and written sixteen rows at a time. Rows of smaller blocks are copied.
struct WidePass {
  bool gathering = false;
  const void* src = nullptr;
  void* dst = nullptr;
  bool src_bf16 = false, dst_bf16 = false;  ///< as in BlockPass
  int64_t src_pitch = 0, dst_pitch = 0;     ///< elements between two rows
  Columns src_columns = {}, dst_columns = {};
  int64_t rows = 0;  ///< rows of one section, at most kSection
  int64_t channels = 0;
  uint32_t block = 1;           ///< KeyRound::block
  bool stream = false;          ///< as in BlockPass
  const void* ahead = nullptr;  ///< src of the next pass; prefetched, only a hint
};

/// The scales of a round.
struct RoundScales {
  const float* scale = nullptr;  ///< [size], KeyRound::scale
  bool divide = false;           ///< whether coefficients are 1 / scale
  uint32_t block = 1;            ///< KeyRound::block
  int64_t size = 0;
};

/// Computes the coefficients of entries [first, first + kGroup) of a round, or of those there are: the scale, or its
/// reciprocal, times the Hadamard norm. `first` must be a multiple of kGroup.
template <typename T>
void round_coefficients(const RoundScales& round, int64_t first, T* coefficient) {
  const auto [scale, divide, block, size] = round;
  const int64_t count = std::min<int64_t>(kGroup, size - first);
  // The usual case, with constant bounds: a whole group lies in one block, or in equal ones.
  if (count == kGroup) {
    const T norm = hadamard_norm<T>(block_at(first, size, block));
    for (int i = 0; i < kGroup; ++i) coefficient[i] = T(scale[first + i]);
    if (divide)
      for (int i = 0; i < kGroup; ++i) coefficient[i] = T(1) / coefficient[i];
    for (int i = 0; i < kGroup; ++i) coefficient[i] *= norm;
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const T factor = divide ? T(1) / T(scale[first + i]) : T(scale[first + i]);
    coefficient[i] = factor * hadamard_norm<T>(block_at(first + i, size, block));
  }
}

template <typename T>
struct Kernels {
  void (*gather_block)(const BlockPass<T>& pass) noexcept;
  void (*scatter_block)(const BlockPass<T>& pass) noexcept;
  /// Processes groups [first, last) of kGroup rows each.
  void (*gather_rows)(const RowPass& pass, int64_t first, int64_t last) noexcept;
  void (*scatter_rows)(const RowPass& pass, int64_t first, int64_t last) noexcept;
  void (*mix_wide)(const WidePass& pass) noexcept;
  /// dst[c] = src[0][c] + ... + src[count - 1][c], in this order; count >= 1.
  void (*sum_runs)(const T* const* src, int64_t count, T* dst, int64_t width) noexcept;
  /// Computes the products of one row, whose channels are in the order of `products.vectors`; no column sums.
  void (*take_products)(const T* row, int64_t channels, const RowProducts<T>& products, int64_t image_row) noexcept;
  /// Computes one row of a map. The multiply-add rounds once.
  void (*map_row)(const T* row, const Affine<T>& map, int64_t channels, T* made) noexcept;
};

struct KernelSet {
  const Kernels<float>* f32;
  const Kernels<double>* f64;
};

KernelSet reference_kernels();
/// The kernels compiled for one Highway target, which this machine must support.
template <typename T>
const Kernels<T>& simd_kernels(int64_t target);
template <>
const Kernels<float>& simd_kernels(int64_t target);
template <>
const Kernels<double>& simd_kernels(int64_t target);
/// The kernels of the calling thread's instruction set (blind.h: ScopedIsa). Resolve them once, then pass them to
/// helper threads.
KernelSet current_kernels();

template <typename T>
const Kernels<T>& select(const KernelSet& set);
template <>
inline const Kernels<float>& select(const KernelSet& set) {
  return *set.f32;
}
template <>
inline const Kernels<double>& select(const KernelSet& set) {
  return *set.f64;
}

}  // namespace tempo::obfuscation::kernels
