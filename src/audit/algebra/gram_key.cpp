#include "audit/algebra/gram_key.h"

#include <algorithm>
#include <cmath>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/separation.h"

namespace tempo::audit {
namespace {

/// Signs s from the symmetric Z_ij = s_i s_j |Z_ij|, as in algebra/alignment.cpp.
Vector synchronise_signs(const Matrix& z) {
  Vector s = Vector::Ones(z.cols());
  for (int i = 0; i < 60; ++i) {
    s = z * (z * s);
    const double norm = s.norm();
    if (!(norm > 0)) {
      s = Vector::Ones(z.cols());
      break;
    }
    s /= norm;
  }
  s = s.unaryExpr([](double v) { return v < 0 ? -1.0 : 1.0; });
  for (int sweep = 0; sweep < 50; ++sweep) {
    bool is_changed = false;
    for (Eigen::Index i = 0; i < s.size(); ++i) {
      const double pull = z.row(i).dot(s) - z(i, i) * s[i];
      if (pull * s[i] >= 0) continue;
      s[i] = -s[i];
      is_changed = true;
    }
    if (!is_changed) break;
  }
  return s;
}

Matrix start_from(const GramMatrices& known, const GramMatrices& seen, int start, Random& random) {
  std::normal_distribution<double> normal;
  Eigen::MatrixXd a = Eigen::MatrixXd::Zero(known[0].rows(), known[0].cols()), b = a;
  for (size_t k = 0; k < known.size(); ++k) {
    const double weight = start == 0 ? 1 : normal(random);
    a += weight * (known[k] + known[k].transpose());
    b += weight * (seen[k] + seen[k].transpose());
  }
  const Matrix u = symmetric_eigen(a).vectors;
  const Matrix v = symmetric_eigen(b).vectors;
  Matrix z = Matrix::Zero(u.rows(), u.cols());
  for (size_t k = 0; k < known.size(); ++k)
    z += (u.transpose() * known[k] * u).cwiseProduct(v.transpose() * seen[k] * v);
  return u * synchronise_signs(z + z.transpose()).asDiagonal() * v.transpose();
}

/// sum_k <seen_k, M^T known_k M>: what a good M makes large. `pull` receives half its derivative.
double agreement(const GramMatrices& known, const GramMatrices& seen, const Matrix& key, Matrix& pull) {
  pull = Matrix::Zero(key.rows(), key.cols());
  for (size_t k = 0; k < known.size(); ++k) {
    // Products of two positions have two terms; the others are symmetric, and their two terms equal.
    const bool is_product = k > 0 && k % 2 == 0;
    const double weight = is_product ? 0.5 : 1;
    pull.noalias() += weight * ((known[k] * key) * seen[k].transpose());
    if (is_product) pull.noalias() += weight * (known[k].transpose() * (key * seen[k]));
  }
  return pull.cwiseProduct(key).sum();
}

}  // namespace

void make_even(GramMatrices& grams, double ridge_share) {
  const Eigen::MatrixXd first = grams.front();
  const EigenPairs eigen = symmetric_eigen(grams.front());
  const Eigen::MatrixXd vectors = eigen.vectors;
  const double ridge = std::max(ridge_share * eigen.values.mean(), 1e-300);
  const Vector spectrum = eigen.values.cwiseMax(0).array() + ridge;
  const Matrix whitener = vectors * spectrum.cwiseSqrt().cwiseInverse().asDiagonal() * vectors.transpose();
  for (Matrix& g : grams) g = whitener * g * whitener;
  grams.front() = vectors * spectrum.array().log().matrix().asDiagonal() * vectors.transpose();
  const Eigen::Index d = first.rows();
  for (Matrix& g : grams) {
    if (d > 1) g -= g.trace() / static_cast<double>(d) * Matrix::Identity(d, d);
    const double norm = g.norm();
    if (norm > 0) g /= norm;
  }
}

Matrix match_grams(const GramMatrices& known, const GramMatrices& seen, const GramEffort& effort, Random& random) {
  Matrix best = Matrix::Identity(known[0].rows(), known[0].cols()), best_pull, pull;
  double best_value = -1e300;
  const int starts = known.size() > 1 ? effort.starts : 1;
  for (int start = 0; start < starts; ++start) {
    Matrix key = start_from(known, seen, start, random);
    agreement(known, seen, key, pull);
    key = nearest_orthogonal(pull);
    const double value = agreement(known, seen, key, pull);
    if (!(value > best_value)) continue;
    best_value = value;
    best = key;
    best_pull = pull;
    if (value > (1 - 1e-6) * static_cast<double>(known.size())) break;
  }
  for (int i = 0; i < effort.rounds && best_pull.size() != 0; ++i) {
    const Matrix next = nearest_orthogonal(best_pull);
    const double value = agreement(known, seen, next, pull);
    if (!(value > best_value)) break;
    const double gain = value - best_value;
    best = next;
    best_pull = pull;
    best_value = value;
    if (gain < 1e-8 * value) break;
  }
  return best;
}

}  // namespace tempo::audit
