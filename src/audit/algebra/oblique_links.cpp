#include "audit/algebra/oblique_links.h"

#include <algorithm>
#include <cmath>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"

namespace tempo::audit {
namespace {

/// Columns from the last to the first: eigenvalues come in ascending order.
Matrix reversed(const Matrix& m) { return m.rowwise().reverse(); }

struct Solution {
  Vector row;  // in white coordinates
  double residual = 0;
};

/// Pairs r, q by alternation from one random q.
Solution alternate(const std::vector<Matrix>& white, int most_rounds, Random& random) {
  const Eigen::Index m = white.front().rows();
  Vector q = random_gaussian(m, 1, random).col(0);
  Solution found;
  double last = 1;
  for (int i = 0; i < most_rounds; ++i) {
    Matrix gram = Matrix::Zero(m, m);
    for (const Matrix& a : white) {
      const Vector v = a * q;
      gram += v * v.transpose();
    }
    found.row = symmetric_eigen(gram).vectors.col(0);
    gram.setZero();
    for (const Matrix& a : white) {
      const Vector v = a.transpose() * found.row;
      gram += v * v.transpose();
    }
    const EigenPairs eigen = symmetric_eigen(gram);
    q = eigen.vectors.col(0);
    found.residual = std::max(eigen.values[0], 0.0);
    if (found.residual < 1e-14 || !std::isfinite(found.residual)) break;
    if (i % 50 != 49) continue;
    if (found.residual > 0.995 * last) break;  // where it stays, it is no solution
    last = found.residual;
  }
  return found;
}

}  // namespace

Matrix whitener_of(const Matrix& form) {
  const EigenPairs eigen = symmetric_eigen((form + form.transpose()) / 2);
  const double floor = 1e-9 * std::max(eigen.values.maxCoeff(), 1e-300);
  return eigen.vectors * eigen.values.cwiseMax(floor).cwiseSqrt().cwiseInverse().asDiagonal();
}

LinkVectors form_and_dual(const Matrix& form, const Matrix& dual) {
  const Matrix scale = whitener_of(form);
  const Matrix inverse = inverse_of(scale);
  const Matrix white = inverse * dual * inverse.transpose();
  return {scale, reversed(symmetric_eigen((white + white.transpose()) / 2).vectors)};
}

CanonicalVectors canonical_vectors(const Matrix& left, const Matrix& cross, const Matrix& right) {
  const Matrix scale_left = whitener_of(left), scale_right = whitener_of(right);
  const FullSvd svd = full_svd(scale_left.transpose() * cross * scale_right);
  const Eigen::Index count = svd.values.size();
  return {{scale_left, svd.u.leftCols(count)}, {scale_right, svd.v.leftCols(count)}};
}

KeyChange key_change(const std::vector<Matrix>& before, const std::vector<Matrix>& after) {
  if (before.empty() || before.size() != after.size()) return {};
  const Eigen::Index d = before.front().rows(), m = before.front().cols(), unknowns = d * d + m * m;
  if (unknowns > KeyChange::kMostUnknowns) return {};
  // Normal equations of  sum_j A_ij after_jl - sum_n before_in B_nl = 0.
  Matrix normal = Matrix::Zero(unknowns, unknowns);
  Matrix rows = Matrix::Zero(d, d), columns = Matrix::Zero(m, m);
  for (size_t k = 0; k < before.size(); ++k) {
    rows += after[k] * after[k].transpose();
    columns += before[k].transpose() * before[k];
    for (Eigen::Index i = 0; i < d; ++i)
      for (Eigen::Index j = 0; j < d; ++j)
        for (Eigen::Index n = 0; n < m; ++n)
          normal.row(i * d + j).segment(d * d + n * m, m) -= before[k](i, n) * after[k].row(j);
  }
  for (Eigen::Index i = 0; i < d; ++i) normal.block(i * d, i * d, d, d) += rows;
  for (Eigen::Index n = 0; n < m; ++n)
    for (Eigen::Index n2 = 0; n2 < m; ++n2)
      normal.block(d * d + n * m, d * d + n2 * m, m, m).diagonal().array() += columns(n, n2);
  normal.bottomLeftCorner(m * m, d * d) = normal.topRightCorner(d * d, m * m).transpose();
  // Inverse iteration; the ridge only keeps the factorisation finite.
  normal.diagonal().array() += 1e-10 * normal.trace() / static_cast<double>(unknowns);
  Random random(1);
  Matrix x = random_gaussian(unknowns, 4, random);
  for (int i = 0; i < 4; ++i) x = polar_factor(solve_symmetric(normal, x));
  const Matrix small = x.transpose() * normal * x;
  const Vector least = x * symmetric_eigen((small + small.transpose()) / 2).vectors.col(0);
  KeyChange change{Matrix(d, d), Matrix(m, m)};
  for (Eigen::Index i = 0; i < d * d; ++i) change.left.data()[i] = least[i];
  for (Eigen::Index i = 0; i < m * m; ++i) change.right.data()[i] = least[d * d + i];
  return change;
}

ZeroPairs zero_pairs(const std::vector<Matrix>& matrices, double operations, Random& random) {
  ZeroPairs found;
  if (matrices.empty()) return found;
  const Eigen::Index m = matrices.front().rows();
  Matrix by_row = Matrix::Zero(m, m), by_column = by_row;
  for (const Matrix& a : matrices) {
    by_row += a * a.transpose() / a.squaredNorm();
    by_column += a.transpose() * a / a.squaredNorm();
  }
  const Matrix left = whitener_of(by_row), right = whitener_of(by_column);
  std::vector<Matrix> white;
  for (const Matrix& a : matrices) {
    white.push_back(left.transpose() * a * right);
    white.back() /= std::max(white.back().norm(), 1e-300);
  }
  constexpr int kMostRounds = 2000;
  const double cost = 4 * static_cast<double>(matrices.size() * m * m) + 30 * std::pow(static_cast<double>(m), 3);
  auto rounds_left = std::max(operations / cost, 200.0);
  std::vector<Solution> solutions;
  while (rounds_left > 0 && found.starts < 400) {
    solutions.push_back(alternate(white, kMostRounds, random));
    rounds_left -= kMostRounds / 4.0;
    ++found.starts;
  }
  std::sort(solutions.begin(), solutions.end(), [](const auto& a, const auto& b) { return a.residual < b.residual; });
  std::vector<Solution> different;
  for (const Solution& s : solutions) {
    const auto is_known = [&](const Solution& other) { return std::abs(other.row.dot(s.row)) > 0.95; };
    if (static_cast<Eigen::Index>(different.size()) < m && std::none_of(different.begin(), different.end(), is_known))
      different.push_back(s);
  }
  found.rows = Matrix(static_cast<Eigen::Index>(different.size()), m);
  for (size_t i = 0; i < different.size(); ++i)
    found.rows.row(static_cast<Eigen::Index>(i)) = (left * different[i].row).transpose();
  if (!different.empty()) found.residual = std::sqrt(different[different.size() / 2].residual);
  return found;
}

}  // namespace tempo::audit
