#include "audit/operand.h"

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

}  // namespace tempo::audit
