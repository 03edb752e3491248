/// Dense tensors as the attacks see them. No LibTorch here: attacks are plain linear algebra on what a worker holds.
#pragma once

#include <Eigen/Dense>
#include <cstdint>
#include <vector>

namespace tempo::audit {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

/// A tensor [rows, height, width, channels], row-major float32: activations by tile, or a weight
/// [out, kernel_h, kernel_w, in]. A matrix product has height = width = 1.
struct Operand {
  int64_t rows = 0, height = 1, width = 1, channels = 0;
  std::vector<float> values;

  Operand() = default;
  Operand(int64_t n, int64_t h, int64_t w, int64_t c)
      : rows(n), height(h), width(w), channels(c), values(static_cast<size_t>(n * h * w * c)) {}

  [[nodiscard]] bool empty() const { return values.empty(); }
  [[nodiscard]] int64_t positions() const { return height * width; }
  [[nodiscard]] bool same_shape(const Operand& other) const {
    return rows == other.rows && height == other.height && width == other.width && channels == other.channels;
  }
  [[nodiscard]] float& at(int64_t row, int64_t position, int64_t channel) {
    return values[static_cast<size_t>((row * positions() + position) * channels + channel)];
  }
  [[nodiscard]] float at(int64_t row, int64_t position, int64_t channel) const {
    return values[static_cast<size_t>((row * positions() + position) * channels + channel)];
  }
  /// One tile position (or kernel tap) of all rows: [rows, channels].
  [[nodiscard]] Matrix at_position(int64_t position) const;
  /// Every position of every row as one vector of channels: [rows * positions, channels].
  [[nodiscard]] Matrix by_channel() const;
  /// Every row as one vector: [rows, positions * channels].
  [[nodiscard]] Matrix by_row() const;
};

/// The other way round: `matrix` is [rows * positions, channels], in the order of `by_channel`.
Operand from_channels(const Matrix& matrix, int64_t rows, int64_t height, int64_t width);

/// out[row, position, :] = left[row, :] in[:, position, :] right: a key pair given as dense matrices.
/// `left` [n, rows] or `right` [channels, m] may be empty (0x0), meaning the identity.
Operand transform(const Matrix& left, const Operand& in, const Matrix& right);

/// Exact zeros, other than at places that are zero in every row as padding is, do not survive mixing: where there are
/// some, rows lie open. Looks at the first 256 rows.
bool shows_unmixed_rows(const Operand& x);

}  // namespace tempo::audit
