/// What blinding means, spelled out with dense double matrices straight from the definition in key.h: slow and small.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "obfuscation/blind.h"

namespace tempo::obfuscation::dense {

using Random = std::mt19937_64;
using Values = std::vector<double>;

struct KeyKind {
  const char* name;
  uint32_t block;
  bool signs;  ///< scales are +-1; otherwise signed reals of magnitude 1/4 .. 4
};
constexpr KeyKind kPermuted = {"permuted", 1, false};
constexpr KeyKind kRotated = {"rotated", 16, true};
constexpr KeyKind kWideRotated = {"rotated in blocks of 256", 256, true};

/// The same for channels, whose blocks are smaller.
constexpr KeyKind of_channels(KeyKind kind) { return {kind.name, kind.block > 16 ? 16 : kind.block, kind.signs}; }

/// @param group Key::group, if there are more entries
inline Key random_key(int64_t size, int rounds, KeyKind kind, Random& random, uint32_t group = 0) {
  Key key;
  key.size = static_cast<uint32_t>(size);
  key.orthogonal = kind.signs;
  key.group = size > group ? group : 0;
  std::uniform_real_distribution<float> exponent(-2, 2);
  for (int r = 0; r < rounds; ++r) {
    KeyRound round;
    round.block = kind.block;
    round.source.resize(key.size);
    std::iota(round.source.begin(), round.source.end(), 0u);
    for (uint32_t g = 0; g < (r == 0 ? 1 : key.groups()); ++g)
      std::shuffle(round.source.begin() + (r == 0 ? 0 : key.group_begin(g)),
                   round.source.begin() + (r == 0 ? key.size : key.group_end(g)), random);
    for (uint32_t i = 0; i < key.size; ++i)
      round.scale.push_back((random() % 2 ? 1.0f : -1.0f) * (kind.signs ? 1.0f : std::exp2(exponent(random))));
    key.rounds.push_back(std::move(round));
  }
  return key;
}

/// Square, row-major.
struct Matrix {
  int64_t size;
  Values at;
  explicit Matrix(int64_t n) : size(n), at(static_cast<size_t>(n * n)) {}
  double& operator()(int64_t i, int64_t j) { return at[static_cast<size_t>(i * size + j)]; }
  double operator()(int64_t i, int64_t j) const { return at[static_cast<size_t>(i * size + j)]; }
};

inline Matrix multiply(const Matrix& a, const Matrix& b) {
  Matrix c(a.size);
  for (int64_t i = 0; i < a.size; ++i)
    for (int64_t k = 0; k < a.size; ++k)
      if (a(i, k) != 0)
        for (int64_t j = 0; j < a.size; ++j) c(i, j) += a(i, k) * b(k, j);
  return c;
}

inline Matrix transpose(const Matrix& a) {
  Matrix t(a.size);
  for (int64_t i = 0; i < a.size; ++i)
    for (int64_t j = 0; j < a.size; ++j) t(j, i) = a(i, j);
  return t;
}

/// Gauss-Jordan with pivoting.
inline Matrix inverse(Matrix a) {
  const int64_t n = a.size;
  Matrix b(n);
  for (int64_t i = 0; i < n; ++i) b(i, i) = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k; i < n; ++i)
      if (std::abs(a(i, k)) > std::abs(a(pivot, k))) pivot = i;
    for (int64_t j = 0; j < n; ++j) std::swap(a(k, j), a(pivot, j)), std::swap(b(k, j), b(pivot, j));
    const double scale = 1 / a(k, k);
    for (int64_t j = 0; j < n; ++j) a(k, j) *= scale, b(k, j) *= scale;
    for (int64_t i = 0; i < n; ++i) {
      const double factor = a(i, k);
      if (i == k || factor == 0) continue;
      for (int64_t j = 0; j < n; ++j) a(i, j) -= factor * a(k, j), b(i, j) -= factor * b(k, j);
    }
  }
  return b;
}

/// The block-diagonal Sylvester-Hadamard matrix: blocks of `block`, then descending powers of two. Those of more than
/// 16 entries leave transposed, as key.h says.
inline Matrix hadamard(int64_t size, int64_t block) {
  Matrix h(size);
  int64_t begin = 0;
  while (begin < size) {
    while (block > size - begin) block /= 2;
    const int64_t groups = std::max<int64_t>(block / 16, 1);
    const auto place = [&](int64_t i) { return groups == 1 ? i : i % 16 * groups + i / 16; };
    for (int64_t i = 0; i < block; ++i)
      for (int64_t j = 0; j < block; ++j)
        h(begin + place(i), begin + j) =
            (std::popcount(static_cast<uint64_t>(i & j)) % 2 ? -1 : 1) / std::sqrt(static_cast<double>(block));
    begin += block;
  }
  return h;
}

/// The matrix of a form of a key.
inline Matrix matrix_of(KeyUse use) {
  Matrix k(use.key->size);
  for (int64_t i = 0; i < k.size; ++i) k(i, i) = 1;
  for (const KeyRound& round : use.key->rounds) {
    Matrix permuted(k.size);
    for (int64_t i = 0; i < k.size; ++i)
      permuted(i, round.source[static_cast<size_t>(i)]) = double{round.scale[static_cast<size_t>(i)]};
    k = multiply(multiply(hadamard(k.size, round.block), permuted), k);
  }
  switch (use.form) {
    case Form::kDirect:
      return k;
    case Form::kInverseTranspose:
      return transpose(inverse(k));
    case Form::kInverse:
      return inverse(k);
    case Form::kTranspose:
      return transpose(k);
  }
  return k;
}

/// tiles[row, position, channel] -> rows x tiles x channels^T
inline Values mix(const Values& tiles, int64_t positions, KeyUse rows, KeyUse channels) {
  const Matrix left = matrix_of(rows), right = matrix_of(channels);
  const int64_t n = left.size, c = right.size, run = positions * c;
  Values half(tiles.size()), result(tiles.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      if (left(i, j) != 0)
        for (int64_t k = 0; k < run; ++k)
          half[static_cast<size_t>(i * run + k)] += left(i, j) * tiles[static_cast<size_t>(j * run + k)];
  for (int64_t p = 0; p < n * positions; ++p)
    for (int64_t i = 0; i < c; ++i)
      for (int64_t j = 0; j < c; ++j)
        result[static_cast<size_t>(p * c + i)] += right(i, j) * half[static_cast<size_t>(p * c + j)];
  return result;
}

/// Index in the image of element `e` of the tiles, or -1 in the padding.
inline int64_t image_index(const TileGeometry& g, int64_t e) {
  const int64_t c = e % g.channels, px = e / g.channels % g.tile_w, py = e / g.channels / g.tile_w % g.tile_h;
  const int64_t row = e / g.channels / g.tile_w / g.tile_h;
  const int64_t tx = row % g.tiles_x, ty = row / g.tiles_x % g.tiles_y, n = row / g.tiles_x / g.tiles_y;
  const int64_t y = ty * g.step_y - g.offset_y + py * g.pitch_y, x = tx * g.step_x - g.offset_x + px * g.pitch_x;
  if (y < 0 || y >= g.height || x < 0 || x >= g.width) return -1;
  return ((n * g.height + y) * g.width + x) * g.channels + c;
}

inline int64_t image_elements(const TileGeometry& g) { return g.images * g.height * g.width * g.channels; }

/// The positions that a channel key acts on one by one.
inline int64_t key_positions(const TileGeometry& g) { return g.mixes_positions ? 1 : g.positions(); }

inline Values blind(const Values& x, const TileGeometry& g, KeyUse rows, KeyUse channels) {
  Values tiles(static_cast<size_t>(g.elements()));
  for (int64_t e = 0; e < g.elements(); ++e)
    if (const int64_t i = image_index(g, e); i >= 0) tiles[static_cast<size_t>(e)] = x[static_cast<size_t>(i)];
  return mix(tiles, key_positions(g), rows, channels);
}

inline Values unblind(const Values& wire, const TileGeometry& g, KeyUse rows, KeyUse channels) {
  const Values tiles = mix(wire, key_positions(g), rows, channels);
  Values x(static_cast<size_t>(image_elements(g)));
  for (int64_t e = 0; e < g.elements(); ++e)
    if (const int64_t i = image_index(g, e); i >= 0) x[static_cast<size_t>(i)] += tiles[static_cast<size_t>(e)];
  return x;
}

template <typename T>
std::vector<T> random_values(int64_t count, Random& random) {
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<size_t>(count));
  for (T& v : values) v = static_cast<T>(normal(random));
  return values;
}

template <typename T>
Values widened(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

/// Largest difference, relative to the root mean square of `expected`.
inline double relative_error(const Values& actual, const Values& expected) {
  double worst = 0, square = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, std::abs(actual[i] - expected[i]));
    square += expected[i] * expected[i];
  }
  return square == 0 ? worst : worst / std::sqrt(square / static_cast<double>(expected.size()));
}

inline double inner_product(const Values& a, const Values& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

}  // namespace tempo::obfuscation::dense
