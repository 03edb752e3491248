#include "audit/algebra/zero_diagonal.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "audit/algebra/matching.h"

namespace tempo::audit {
namespace {

constexpr int kMostSweeps = 300, kMostStarts = 40;

/// Entry (i, j) of all matrices side by side, as a rotation reads them.
struct Entries {
  Eigen::Index size, count;
  Matrix values;  ///< [size, size * count]

  Entries(const std::vector<Matrix>& matrices, const Matrix& basis)
      : size(basis.rows()),
        count(static_cast<Eigen::Index>(matrices.size())),
        values(basis.rows(), basis.rows() * count) {
    for (Eigen::Index k = 0; k < count; ++k) {
      const Matrix turned = basis * matrices[static_cast<size_t>(k)] * basis.transpose();
      for (Eigen::Index i = 0; i < size; ++i)
        for (Eigen::Index j = 0; j < size; ++j) values(i, j * count + k) = turned(i, j);
    }
  }
  [[nodiscard]] auto at(Eigen::Index i, Eigen::Index j) const { return values.row(i).segment(j * count, count); }

  void rotate(Eigen::Index p, Eigen::Index q, double cosine, double sine) {
    const Eigen::RowVectorXd row = cosine * values.row(p) + sine * values.row(q);
    values.row(q) = cosine * values.row(q) - sine * values.row(p);
    values.row(p) = row;
    for (Eigen::Index i = 0; i < size; ++i) {
      auto a = values.row(i).segment(p * count, count), b = values.row(i).segment(q * count, count);
      const Eigen::RowVectorXd turned = cosine * a + sine * b;
      b = cosine * b - sine * a;
      a = turned;
    }
  }
  [[nodiscard]] double residual() const {
    double diagonal = 0;
    for (Eigen::Index i = 0; i < size; ++i) diagonal += at(i, i).squaredNorm();
    return std::sqrt(diagonal / std::max(values.squaredNorm(), 1e-300));
  }
};

/// The rotation of rows p and q that makes their two diagonal entries least over all matrices. Half their sum does not
/// change; half their difference turns with twice the off-diagonal entry at double the angle.
/// @returns the sine of its angle.
double rotate_pair(Entries& entries, Matrix& basis, Eigen::Index p, Eigen::Index q) {
  const Eigen::ArrayXd difference = (entries.at(p, p) - entries.at(q, q)).transpose();
  const Eigen::ArrayXd twice = 2 * entries.at(p, q).transpose();
  const double on = difference.square().sum() - twice.square().sum(), off = 2 * (difference * twice).sum();
  double angle = 0.25 * std::atan2(off, on) + std::numbers::pi / 4;  // a quarter turn from where they are largest
  if (angle > std::numbers::pi / 4) angle -= std::numbers::pi / 2;
  const double cosine = std::cos(angle), sine = std::sin(angle);
  if (std::abs(sine) < 1e-13) return 0;
  entries.rotate(p, q, cosine, sine);
  const Eigen::RowVectorXd row = cosine * basis.row(p) + sine * basis.row(q);
  basis.row(q) = cosine * basis.row(q) - sine * basis.row(p);
  basis.row(p) = row;
  return sine;
}

double sweep(Entries& entries, Matrix& basis) {
  double largest = 0;
  for (Eigen::Index p = 0; p + 1 < entries.size; ++p)
    for (Eigen::Index q = p + 1; q < entries.size; ++q)
      largest = std::max(largest, std::abs(rotate_pair(entries, basis, p, q)));
  return largest;
}

}  // namespace

ZeroDiagonal zero_diagonal_basis(const std::vector<Matrix>& matrices, const ZeroDiagonalEffort& effort,
                                 Random& random) {
  ZeroDiagonal best;
  if (matrices.empty()) return best;
  const Eigen::Index d = matrices.front().rows();
  const double cost = 4 * std::pow(static_cast<double>(d), 3) * static_cast<double>(matrices.size());
  auto sweeps_left = static_cast<int>(std::clamp(effort.operations / cost, 20.0, 1e6));
  while (sweeps_left > 0 && best.starts < kMostStarts && !(best.residual < effort.good_enough)) {
    Matrix basis = random_orthogonal(d, random);
    Entries entries(matrices, basis);
    double last = 1;
    for (int i = 0; i < kMostSweeps && sweeps_left-- > 0; ++i) {
      if (sweep(entries, basis) < 1e-9) break;
      if (i % 20 != 19) continue;
      const double now = entries.residual();
      if (now > 0.99 * last) break;  // where it stays, it is no solution
      last = now;
    }
    const double residual = entries.residual();
    ++best.starts;
    if (best.directions.size() != 0 && !(residual < best.residual)) continue;
    best.directions = basis;
    best.residual = residual;
  }
  return best;
}

}  // namespace tempo::audit
