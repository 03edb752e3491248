// The reference kernels: plain loops that define what the SIMD kernels must compute. They are slow, always available,
// and do the same operations in the same order.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <utility>

#include "obfuscation/kernels/kernels.h"

namespace tempo::obfuscation::kernels {
namespace {

/// Round to nearest even; a NaN stays a NaN.
BFloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<BFloat16>((bits >> 16) | 0x40u);
  return static_cast<BFloat16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <typename T>
T read(const void* base, bool bf16, int64_t i) {
  const auto* bytes = static_cast<const std::byte*>(base);
  if (bf16) {
    BFloat16 half;
    std::memcpy(&half, bytes + i * int64_t{sizeof half}, sizeof half);
    return static_cast<T>(std::bit_cast<float>(uint32_t{half} << 16));
  }
  T value;
  std::memcpy(&value, bytes + i * int64_t{sizeof value}, sizeof value);
  return value;
}

template <typename T>
void write(void* base, bool bf16, int64_t i, T value) {
  auto* bytes = static_cast<std::byte*>(base);
  if (bf16) {
    const BFloat16 half = to_bfloat16(static_cast<float>(value));
    std::memcpy(bytes + i * int64_t{sizeof half}, &half, sizeof half);
  } else {
    std::memcpy(bytes + i * int64_t{sizeof value}, &value, sizeof value);
  }
}

int64_t column_offset(const Columns& columns, int64_t c) {
  return c / columns.width * columns.stride + c % columns.width;
}

/// The unnormalised Hadamard transform of `size` entries, `stride` apart, in blocks of `block` and a ragged end. A pair
/// of halves [j, j + 2 * half) lies within one block if and only if it fits below `size`.
template <typename T>
void butterfly(T* v, int64_t size, int64_t stride, uint32_t block) {
  for (int64_t half = 1; half < block; half *= 2)
    for (int64_t j = 0; j + 2 * half <= size; j += 2 * half)
      for (int64_t i = j; i < j + half; ++i) {
        const T a = v[i * stride], b = v[(i + half) * stride];
        v[i * stride] = a + b;
        v[(i + half) * stride] = a - b;
      }
}

/// src -> work[channel][row], with the row round applied.
template <typename T>
void load_block(const BlockPass<T>& pass, bool gathering, T* work) {
  for (int64_t c = 0; c < pass.channels; ++c) {
    T* v = work + c * kGroup;
    const int64_t offset = column_offset(pass.src_columns, c);
    for (int i = 0; i < pass.rows; ++i) v[i] = read<T>(pass.src[i], pass.src_bf16, offset);
    if (gathering)
      for (int i = 0; i < pass.rows; ++i) v[i] *= pass.coefficient[i];
    butterfly(v, pass.rows, 1, pass.row_block);
    if (!gathering)
      for (int i = 0; i < pass.rows; ++i) v[i] *= pass.coefficient[i];
  }
}

template <typename T>
void store_block(const BlockPass<T>& pass, const T* work) {
  for (int64_t c = 0; c < pass.channels; ++c)
    for (int i = 0; i < pass.rows; ++i) {
      const int64_t at = column_offset(pass.dst_columns, c);
      T value = work[c * kGroup + i];
      if (pass.accumulate) value += read<T>(pass.dst[i], pass.dst_bf16, at);
      write(pass.dst[i], pass.dst_bf16, at, value);
    }
}

template <typename T>
void take_moments(const BlockPass<T>& pass) {
  for (int i = 0; pass.moments.sum != nullptr && i < pass.rows; ++i) {
    if (pass.image_row[i] < 0) continue;
    for (int64_t c = 0; c < pass.channels; ++c) {
      const T above = static_cast<const T*>(pass.dst[i])[c] - pass.moments.shift[c];
      pass.moments.sum[c] += above;
      pass.moments.squares[c] += above * above;
    }
  }
}

/// Computes products of the image's rows, which lie at `rows`. `source` says which of their channels an entry of a
/// vector belongs to.
template <typename T>
void take_products(const BlockPass<T>& pass, const void* const* rows, const Columns& columns, const uint32_t* source) {
  const RowProducts<T>& p = pass.products;
  for (int i = 0; p.count > 0 && i < pass.rows; ++i) {
    if (pass.image_row[i] < 0) continue;
    T* const plane = p.planes + pass.image_row[i];
    for (int j = 0; j <= p.count; ++j) {
      T sum = 0;
      for (int64_t c = 0; c < pass.channels; ++c) {
        const T value = read<T>(rows[i], false, column_offset(columns, source == nullptr ? c : int64_t{source[c]}));
        sum += value * (j == p.count ? value : p.vectors[j * pass.channels + c]);
      }
      plane[j * p.pitch] = sum;
    }
    for (int64_t c = 0; p.weights != nullptr && c < pass.channels; ++c)
      p.column_sums[c] += p.weights[pass.image_row[i]] * read<T>(rows[i], false, column_offset(columns, source[c]));
  }
}

template <typename T>
void gather_block(const BlockPass<T>& pass) noexcept {
  if (pass.products.count > 0) take_products(pass, pass.src, pass.src_columns, pass.rounds->source);
  T* from = pass.work;
  T* to = pass.work + block_work_elements(pass.channels) / 2;
  load_block(pass, true, from);
  for (int r = 0; r < pass.round_count; ++r) {
    const ChannelRound<T>& round = pass.rounds[r];
    for (int64_t c = 0; c < pass.channels; ++c)
      for (int i = 0; i < pass.rows; ++i)
        to[c * kGroup + i] = from[int64_t{round.source[c]} * kGroup + i] * round.coefficient[c];
    for (int i = 0; i < pass.rows; ++i) butterfly(to + i, pass.channels, kGroup, round.block);
    std::swap(from, to);
  }
  store_block(pass, from);
}

template <typename T>
void scatter_block(const BlockPass<T>& pass) noexcept {
  T* from = pass.work;
  T* to = pass.work + block_work_elements(pass.channels) / 2;
  load_block(pass, false, from);
  for (int r = 0; r < pass.round_count; ++r) {
    const ChannelRound<T>& round = pass.rounds[r];
    for (int i = 0; i < pass.rows; ++i) butterfly(from + i, pass.channels, kGroup, round.block);
    for (int64_t c = 0; c < pass.channels; ++c)
      for (int i = 0; i < pass.rows; ++i)
        to[int64_t{round.source[c]} * kGroup + i] = from[c * kGroup + i] * round.coefficient[c];
    std::swap(from, to);
  }
  store_block(pass, from);
  take_products(pass, pass.dst, pass.dst_columns, nullptr);
  take_moments(pass);
  for (int i = 0; pass.has_addends && i < pass.rows; ++i)
    for (int64_t c = 0; c < pass.channels; ++c) static_cast<T*>(pass.dst[i])[c] += pass.addend[i][c];
}

template <typename T, bool kGather>
void mix_rows(const RowPass& pass, int64_t first, int64_t last) noexcept {
  const int64_t begin = first * kGroup;
  const int64_t end = std::min(last * kGroup, pass.rows);
  for (int64_t row = begin; row < end; row += kGroup) {
    const int64_t rows = std::min<int64_t>(kGroup, end - row);
    T coefficient[kGroup], v[kGroup];
    round_coefficients({pass.scale, pass.divide, pass.block, pass.rows}, row, coefficient);
    for (int64_t panel = 0; panel < pass.panels; ++panel) {
      const int64_t width = panel + 1 == pass.panels ? pass.last_width : pass.width;
      for (int64_t c = 0; c < width; ++c) {
        const int64_t from = panel * pass.src_panel_stride + c;
        const int64_t to = panel * pass.dst_panel_stride + c;
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t r = kGather ? int64_t{pass.source[row + i]} : row - begin + i;
          v[i] = read<T>(pass.src, pass.src_bf16, r * pass.src_pitch + from);
          if (kGather) v[i] *= coefficient[i];
        }
        butterfly(v, rows, 1, std::min<uint32_t>(pass.block, kGroup));
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t r = kGather ? row - begin + i : int64_t{pass.source[row + i]};
          write(pass.dst, pass.dst_bf16, r * pass.dst_pitch + to, kGather ? v[i] : v[i] * coefficient[i]);
        }
      }
    }
  }
}

template <typename T>
void mix_wide(const WidePass& pass) noexcept {
  for (int64_t c = 0; c < pass.channels; ++c)
    for (int64_t first = 0; first < pass.rows;) {
      const int64_t rows = block_at(first, pass.rows, pass.block), groups = std::max<int64_t>(rows / kGroup, 1);
      const auto at = [&](bool in_order, int64_t j, int64_t k) {
        return first + (in_order ? j * groups + k : j + k * kGroup);
      };
      for (int64_t j = 0; j < rows / groups; ++j) {
        T v[kGroup];
        for (int64_t k = 0; k < groups; ++k)
          v[k] = read<T>(pass.src, pass.src_bf16,
                         at(!pass.gathering, j, k) * pass.src_pitch + column_offset(pass.src_columns, c));
        butterfly(v, groups, 1, static_cast<uint32_t>(groups));
        for (int64_t k = 0; k < groups; ++k)
          write(pass.dst, pass.dst_bf16, at(pass.gathering, j, k) * pass.dst_pitch + column_offset(pass.dst_columns, c),
                v[k]);
      }
      first += rows;
    }
}

template <typename T>
void sum_runs(const T* const* src, int64_t count, T* dst, int64_t width) noexcept {
  for (int64_t c = 0; c < width; ++c) {
    T sum = src[0][c];
    for (int64_t k = 1; k < count; ++k) sum += src[k][c];
    dst[c] = sum;
  }
}

template <typename T>
void take_row(const T* row, int64_t channels, const RowProducts<T>& p, int64_t image_row) noexcept {
  for (int j = 0; j <= p.count; ++j) {
    T sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += row[c] * (j == p.count ? row[c] : p.vectors[j * channels + c]);
    p.planes[image_row + j * p.pitch] = sum;
  }
}

template <typename T>
void map_row(const T* row, const Affine<T>& map, int64_t channels, T* made) noexcept {
  for (int64_t c = 0; c < channels; ++c) {
    const T v = std::fma(row[c], map.scale[c], map.offset[c]);
    made[c] = map.relu && v < 0 ? T(0) : v;
  }
}

template <typename T>
constexpr Kernels<T> kTable = {gather_block<T>, scatter_block<T>, mix_rows<T, true>, mix_rows<T, false>,
                               mix_wide<T>,     sum_runs<T>,      take_row<T>,       map_row<T>};

}  // namespace

KernelSet reference_kernels() { return {&kTable<float>, &kTable<double>}; }

}  // namespace tempo::obfuscation::kernels
