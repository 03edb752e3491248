#include "audit/operand.h"

#include <algorithm>
#include <cassert>

namespace tempo::audit {
namespace {

using FloatMap = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

}  // namespace

Matrix Operand::at_position(int64_t position) const {
  using Strided =
      Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;
  return Strided(values.data() + position * channels, rows, channels, Eigen::OuterStride<>(positions() * channels))
      .cast<double>();
}

Matrix Operand::by_channel() const { return FloatMap(values.data(), rows * positions(), channels).cast<double>(); }

Matrix Operand::by_row() const { return FloatMap(values.data(), rows, positions() * channels).cast<double>(); }

Operand from_channels(const Matrix& matrix, int64_t rows, int64_t height, int64_t width) {
  assert(matrix.rows() == rows * height * width);
  Operand out(rows, height, width, matrix.cols());
  Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
      out.values.data(), matrix.rows(), matrix.cols()) = matrix.cast<float>();
  return out;
}

Operand transform(const Matrix& left, const Operand& in, const Matrix& right) {
  Operand mixed = in;
  if (right.size() != 0) mixed = from_channels(in.by_channel() * right, in.rows, in.height, in.width);
  if (left.size() == 0) return mixed;
  const Matrix rows = left * mixed.by_row();
  Operand out(rows.rows(), mixed.height, mixed.width, mixed.channels);
  Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(out.values.data(), rows.rows(),
                                                                                    rows.cols()) = rows.cast<float>();
  return out;
}

bool shows_unmixed_rows(const Operand& x) {
  constexpr int64_t kLookedAt = 256;
  const int64_t places = x.positions() * x.channels, rows = std::min(x.rows, kLookedAt);
  int64_t zeros = 0, looked_at = 0;
  for (int64_t i = 0; i < places; ++i) {
    int64_t here = 0;
    for (int64_t r = 0; r < rows; ++r) here += x.values[static_cast<size_t>(r * places + i)] == 0 ? 1 : 0;
    if (here == rows) continue;
    zeros += here;
    looked_at += rows;
  }
  return static_cast<double>(zeros) > 0.01 * static_cast<double>(looked_at);
}

}  // namespace tempo::audit
