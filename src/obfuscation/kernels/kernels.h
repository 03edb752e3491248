/// The inner loops of blinding, one table of functions per instruction set. Everything here is pointers and sizes:
/// no allocation, no checks, no logging. Shapes are checked once, by blind.cpp. README.md is the map of this folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace tempo::obfuscation::kernels {

/// Rows (and channels) are handled sixteen at a time, a group. Butterfly blocks are powers of two and start at
/// multiples of their size: one of up to 16 never straddles two groups. Blocks of rows may be larger, up to a section:
/// groups are then mixed within themselves, and with one another by `mix_wide`.
constexpr int kGroup = 16;
constexpr int kSection = kGroup * kGroup;

/// bfloat16 as it is stored: the upper half of a float.
using BFloat16 = uint16_t;

/// Entries of the Hadamard block that entry `i` of `size` entries lies in (key.h: ragged ends use smaller blocks).
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

/// What makes a Hadamard matrix of `block` rows orthonormal.
template <typename T>
T hadamard_norm(uint32_t block) {
  return block == 1 ? T(1) : block == kGroup ? T(0.25) : block == kSection ? T(0.0625) : T(1) / std::sqrt(T(block));
}

/// Where the columns of one row lie: column c is (c / width) * stride + c % width elements after the row's first.
/// Width is a multiple of kGroup or not less than the number of columns.
struct Columns {
  int64_t width = 0;
  int64_t stride = 0;
};

/// One channel round as the kernels want it. Both arrays are padded to a multiple of kGroup entries (source: its own
/// index, coefficient: zero); the coefficient is the scale, or its reciprocal, times the Hadamard norm.
template <typename T>
struct ChannelRound {
  const uint32_t* source = nullptr;
  const T* coefficient = nullptr;
  uint32_t block = 1;
  /// Of a scattering round that mixes nothing: the same as a gathering one. Kernels may use either.
  struct Inverse {
    const uint32_t* source = nullptr;
    const T* coefficient = nullptr;
  } inverse = {};
};

/// Inner products of the image's rows with a few vectors, and the rows' sums of squares, taken while they are moved: so
/// that nothing reads the image once more for them.
template <typename T>
struct RowProducts {
  static constexpr int kMost = 2;
  int count = 0;               ///< of vectors, 1..kMost; 0: nothing is taken
  const T* vectors = nullptr;  ///< [count, channels], in the order of the channels of dst
  T* planes = nullptr;         ///< [count + 1, pitch]: by row of the image; sums of squares are the last
  int64_t pitch = 0;
  /// Gathering, with one vector: a weighted sum of the rows is taken as well. By row of the image; or nullptr.
  const T* weights = nullptr;
  T* column_sums = nullptr;  ///< [channels], in the order of the channels of dst; added to
};

/// Sums over the image's rows of what lies above a shift, and of its squares: for a batch's statistics, which then need
/// no pass over the image.
template <typename T>
struct ColumnMoments {
  const T* shift = nullptr;  ///< [channels]
  T* sum = nullptr;          ///< [channels], added to; or nullptr: nothing is taken
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
  bool src_bf16 = false;   ///< elements of src (scattering, T = float only); T otherwise
  bool dst_bf16 = false;   ///< elements of dst (gathering, T = float only); T otherwise
  bool stream = false;     ///< write past the caches; every run of kGroup channels at dst is 64-byte aligned, of type T
  bool accumulate = false;  ///< add to dst instead (scattering, never with stream); no two rows have one address
  T coefficient[kGroup];
  const void* src[kGroup];
  void* dst[kGroup];
  /// kGroup rows that the next pass will read, or add to if that is what jumps; fetched meanwhile, only hints.
  const void* const* ahead = nullptr;
  bool fetches_all_ahead = false;  ///< src is in the caches already: only `ahead` is worth fetching
  Columns ahead_columns;
  Columns src_columns, dst_columns;
  int64_t channels = 0;
  const ChannelRound<T>* rounds = nullptr;
  int round_count = 0;
  T* work = nullptr;  ///< 64-byte aligned, block_work_elements(channels)
  /// Only where rows and the one channel round have blocks of one, and never with accumulate.
  RowProducts<T> products = {};
  /// Scattering, under the same keys, without addends; of rows that are of the image.
  ColumnMoments<T> moments = {};
  /// Where the products of a row go; negative: nowhere, and it counts for no sums. Read only if something is taken.
  int64_t image_row[kGroup];
  /// Scattering, under the same keys: rows that are added to what dst gets, after products were taken. Then `ahead` are
  /// such rows, too.
  bool has_addends = false;
  const T* addend[kGroup];
};

/// Size of BlockPass::work: two transposed copies of the group, channel after channel, each of kGroup rows.
constexpr int64_t block_work_elements(int64_t channels) {
  return 2 * kGroup * ((channels + kGroup - 1) / kGroup * kGroup);
}

/// What one row round does within groups, over many rows of narrow panels.
///   gather_rows    dst row i = butterfly over i of (coefficient[i] * src row source[i])
///   scatter_rows   dst row source[i] = coefficient[i] * (butterfly over i of src)[i]
/// A panel is `width` columns; panel p of row r starts at r * pitch + p * panel_stride elements. Rows of the side that
/// is in order (dst if gathering, src if scattering) are counted from the first group of the call.
struct RowPass {
  const void* src = nullptr;
  void* dst = nullptr;
  bool src_bf16 = false, dst_bf16 = false;  ///< as in BlockPass
  int64_t src_pitch = 0, dst_pitch = 0;
  int64_t src_panel_stride = 0, dst_panel_stride = 0;
  int64_t panels = 1, width = 0;
  int64_t last_width = 0;            ///< columns of the last panel
  int64_t rows = 0;                  ///< of the key
  const uint32_t* source = nullptr;  ///< the round's, [rows]
  const float* scale = nullptr;      ///< the round's, [rows]
  bool divide = false;               ///< coefficients are 1 / scale
  uint32_t block = 1;                ///< the round's; groups are mixed in blocks of it, of kGroup at most
  bool stream = false;               ///< as in BlockPass
  /// The permuted side of the pass that comes next, and the row of `source` that it begins with: fetched meanwhile.
  const void* ahead = nullptr;
  int64_t ahead_row = 0;
};

/// What a row round does between groups, in every block of more groups than one. The groups lie in a buffer as
/// gather_rows or gather_block leaves them, and as scatter_rows or scatter_block wants them; the other side is in
/// order. With G groups in a block, and butterflies over k:
///   gathering   dst row j G + k = butterfly of src row j + 16 k
///   scattering  dst row j + 16 k = butterfly of src row j G + k
/// What is in order is so read and written sixteen rows at a time. Rows of smaller blocks are copied.
struct WidePass {
  bool gathering = false;
  const void* src = nullptr;
  void* dst = nullptr;
  bool src_bf16 = false, dst_bf16 = false;  ///< as in BlockPass
  int64_t src_pitch = 0, dst_pitch = 0;     ///< elements between rows
  Columns src_columns = {}, dst_columns = {};
  int64_t rows = 0;  ///< of one section, at most kSection
  int64_t channels = 0;
  uint32_t block = 1;           ///< the round's
  bool stream = false;          ///< as in BlockPass
  const void* ahead = nullptr;  ///< scattering: src of the pass that comes next, fetched meanwhile; only a hint
};

/// Coefficients of entries [first, first + count) of a round over `size` entries: the scale, or its reciprocal, times
/// the Hadamard norm. At most one group, which must start at a multiple of kGroup.
template <typename T>
void round_coefficients(const float* scale, bool divide, uint32_t block, int64_t first, int64_t size, T* coefficient) {
  const int64_t count = std::min<int64_t>(kGroup, size - first);
  if (count == kGroup) {  // the usual case, with constant bounds: a whole group lies in one block, or in equal ones
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
  /// Groups [first, last) of kGroup rows each.
  void (*gather_rows)(const RowPass& pass, int64_t first, int64_t last) noexcept;
  void (*scatter_rows)(const RowPass& pass, int64_t first, int64_t last) noexcept;
  void (*mix_wide)(const WidePass& pass) noexcept;
  /// dst[c] = src[0][c] + ... + src[count - 1][c], in this order; count >= 1.
  void (*sum_runs)(const T* const* src, int64_t count, T* dst, int64_t width) noexcept;
  /// Takes products of one row, whose channels are in the order of `products.vectors`; no column sums.
  void (*take_products)(const T* row, int64_t channels, const RowProducts<T>& products, int64_t image_row) noexcept;
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
/// The kernels of the calling thread's instruction set (blind.h: ScopedIsa). Resolve once, then hand to helpers.
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
