#include "audit/algebra/alignment.h"
#include "audit/algebra/decompositions.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace tempo::audit {
namespace {

using Matrices = std::vector<Matrix>;

double squared_norm(const Matrices& list) {
  double sum = 0;
  for (const Matrix& m : list) sum += m.squaredNorm();
  return sum;
}

/// The orthogonal factor of `m` = orthogonal x positive. `inner` receives the sum of singular values: trace(result^T
/// m).
Matrix polar(const Matrix& m, double& inner) {
  const FullSvd svd = full_svd(m);
  inner = svd.values.sum();
  return svd.u * svd.v.transpose();
}

/// Singular vectors of the taps, all of them laid side by side (left) and one below the other (right). They turn with
/// the keys, so those of two key pairs differ by the keys and by signs.
struct Bases {
  Matrix left, right;
};

Bases singular_bases(const Matrices& taps) {
  Eigen::MatrixXd by_row = Eigen::MatrixXd::Zero(taps[0].rows(), taps[0].rows());
  Eigen::MatrixXd by_column = Eigen::MatrixXd::Zero(taps[0].cols(), taps[0].cols());
  for (const Matrix& a : taps) {
    by_row.noalias() += a * a.transpose();
    by_column.noalias() += a.transpose() * a;
  }
  return {symmetric_eigen(by_row).vectors, symmetric_eigen(by_column).vectors};
}

/// Signs t of the right vectors, from Z_ij = s_i t_j |Z_ij|: the leading singular vector of Z, made better by ascent on
/// s^T Z t. Where Z is diagonal (one tap) every pair of signs is free but for its product, and all t = 1 will do.
Vector synchronise_signs(const Matrix& z) {
  Vector best = Vector::Ones(z.cols());
  double best_value = -1;
  for (const bool is_spectral : {true, false}) {
    Vector t = Vector::Ones(z.cols());
    for (int i = 0; is_spectral && i < 60; ++i) {
      t = z.transpose() * (z * t);
      const double norm = t.norm();
      if (!(norm > 0)) break;
      t /= norm;
    }
    t = signs(t);
    double value = -1;
    for (int i = 0; i < 50; ++i) {
      const Vector s = signs(z * t);
      const Vector pull = z.transpose() * s;
      const double now = pull.cwiseAbs().sum();
      // An entry of Z with no pull keeps its sign.
      for (Eigen::Index j = 0; j < t.size(); ++j)
        if (pull[j] != 0) t[j] = pull[j] < 0 ? -1 : 1;
      if (now <= value * (1 + 1e-12)) break;
      value = now;
    }
    if (value > best_value) {
      best_value = value;
      best = t;
    }
  }
  return best;
}

/// Q of the keys from the bases of both sides, its signs from all taps.
Matrix right_key(const Matrices& from, const Matrices& to, const Bases& from_bases, const Bases& to_bases) {
  Matrix z = Matrix::Zero(from_bases.left.cols(), from_bases.right.cols());
  for (size_t k = 0; k < from.size(); ++k) {
    const Matrix a = from_bases.left.transpose() * from[k] * from_bases.right;
    const Matrix b = to_bases.left.transpose() * to[k] * to_bases.right;
    z += a.cwiseProduct(b);
  }
  return from_bases.right * synchronise_signs(z).asDiagonal() * to_bases.right.transpose();
}

/// One round of alternation: P from Q, then Q from P; the residual comes with the singular values.
void improve(const Matrices& from, const Matrices& to, double norms, double to_norm, KeyPair& keys) {
  Matrix product = Matrix::Zero(keys.left.rows(), keys.left.cols());
  for (size_t k = 0; k < from.size(); ++k) product.noalias() += (from[k] * keys.right) * to[k].transpose();
  double inner = 0;
  keys.left = polar(product, inner);
  product = Matrix::Zero(keys.right.rows(), keys.right.cols());
  for (size_t k = 0; k < from.size(); ++k) product.noalias() += from[k].transpose() * (keys.left * to[k]);
  keys.right = polar(product, inner);
  keys.residual = std::sqrt(std::max(norms - 2 * inner, 0.0) / to_norm);
}

/// One random sum of all taps with random weights; the same weights for both sides.
std::pair<Matrices, Matrices> random_combination(const Matrices& from, const Matrices& to, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Matrix a = Matrix::Zero(from[0].rows(), from[0].cols()), b = a;
  for (size_t k = 0; k < from.size(); ++k) {
    const double weight = normal(random);
    a += weight * from[k];
    b += weight * to[k];
  }
  return {{a}, {b}};
}

}  // namespace

KeyPair align_orthogonal(const std::vector<Matrix>& from, const std::vector<Matrix>& to, int iterations) {
  KeyPair best;
  if (from.empty() || from.size() != to.size() || from[0].size() == 0) return best;
  const Eigen::Index m = from[0].rows(), d = from[0].cols();
  best.left = Matrix::Identity(m, m);
  best.right = Matrix::Identity(d, d);
  const double to_norm = squared_norm(to), norms = squared_norm(from) + to_norm;
  if (!(to_norm > 0) || !std::isfinite(norms) || norms == to_norm) return best;

  constexpr double kExact = 1e-2;
  constexpr int kStarts = 3;
  std::mt19937_64 random(1);
  best.residual = 1e9;
  for (int start = 0; start < (from.size() > 1 ? kStarts : 1); ++start) {
    KeyPair keys{Matrix::Identity(m, m), Matrix::Identity(d, d), 0};
    if (start == 0) {
      keys.right = right_key(from, to, singular_bases(from), singular_bases(to));
    } else {
      const auto [a, b] = random_combination(from, to, random);
      keys.right = right_key(from, to, singular_bases(a), singular_bases(b));
    }
    improve(from, to, norms, to_norm, keys);
    if (keys.residual < best.residual) best = keys;
    if (best.residual < kExact) break;
  }
  for (int i = 1; i < iterations; ++i) {
    const double before = best.residual;
    improve(from, to, norms, to_norm, best);
    // Further rounds gain nothing that an attack would show.
    if (best.residual < 1e-6 || best.residual > before * (1 - 1e-4)) break;
  }
  return best;
}

}  // namespace tempo::audit
