// Joint diagonalisation of second moments.
// What the attacker has: products of X~ with itself and dW~, pooled over all steps that it can link (evidence.h).
// Algorithm: rows cancel in X~_p^T X~_q = M^T (X_p^T X_q) M for every pair p, q of positions in a tile. Were plain
// channels uncorrelated at all distances, M would make all of these diagonal together, so it is taken to be the
// orthogonal matrix that makes them as diagonal as it can (Jacobi rotations). Twice: on the products themselves, and on
// those of differences of positions, in which what is common to all channels cancels, whitened by their sum. Products
// of dW~ over taps, dW~_k^T dW~_l and dW~_k dW~_l^T, give M and R likewise.
// Source: SOBI (Belouchrani et al., 1997); Jacobi angles for it (Cardoso, Souloumiac, 1996).
// Success: median |cos| of rows of M (of R), matched one to one.
// Chance: the same guess against fresh keys (`key_finding`).
// Known to work: channels that are independent of each other and differ in variance or in how smooth they are.
#include <fmt/format.h>

#include <algorithm>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/separation.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/evidence.h"

namespace tempo::audit {
namespace joint_diagonalisation {
namespace {

constexpr int kNumber = 22;
constexpr int kSweeps = 30;
constexpr const char* kProducts = "M, from covariances between positions";
constexpr const char* kDifferences = "M, from covariances of differences of positions";
constexpr const char* kGradientInner = "M, from covariances between taps of dW~";
constexpr const char* kGradientRight = "R, from covariances between taps of dW~";

using Matrices = std::vector<Matrix>;

/// Without the trace, which no rotation changes, and of norm one, so that all count alike. Symmetric.
void add_even(Matrices& set, const Matrix& matrix) {
  Matrix even = (matrix + matrix.transpose()) / 2;
  even.diagonal().array() -= even.trace() / static_cast<double>(even.rows());
  const double norm = even.norm();
  if (norm > 0 && std::isfinite(norm)) set.push_back(even / norm);
}

Matrix directions_of(Matrices set) {
  if (set.empty()) return {};
  return joint_diagonaliser(std::move(set), kSweeps).transpose();
}

Matrix from_products(const Evidence& evidence) {
  Matrices set;
  for (int64_t p = 0; p < evidence.positions(); ++p)
    for (int64_t q = p; q < evidence.positions(); ++q) add_even(set, evidence.between(p, q));
  return directions_of(std::move(set));
}

/// Differences of positions p and q, and products of the differences from p to q and from q to r.
Matrices difference_covariances(const Evidence& evidence) {
  Matrices set;
  const int64_t positions = evidence.positions();
  const auto product = [&](int64_t a, int64_t b, int64_t c, int64_t d) {
    return Matrix(evidence.between(a, c) - evidence.between(a, d) - evidence.between(b, c) + evidence.between(b, d));
  };
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t q = p + 1; q < positions; ++q) {
      set.push_back(product(p, q, p, q));
      if (q + 1 < positions) set.push_back(product(p, q, q, q + 1));
    }
  return set;
}

Matrix from_differences(const Evidence& evidence) {
  const Matrices raw = difference_covariances(evidence);
  if (raw.empty()) return {};
  Matrix sum = Matrix::Zero(evidence.channels, evidence.channels);
  for (size_t i = 0; i < raw.size(); ++i) sum += (raw[i] + raw[i].transpose()) / 2;
  const EigenPairs eigen = symmetric_eigen(sum);
  const double floor = 1e-3 * std::max(eigen.values.maxCoeff(), 1e-300);
  const Vector root = eigen.values.cwiseMax(floor).cwiseSqrt();
  const Matrix whitener = eigen.vectors * root.cwiseInverse().asDiagonal() * eigen.vectors.transpose();
  Matrices set;
  for (const Matrix& covariance : raw) add_even(set, whitener * covariance * whitener);
  Matrix directions = directions_of(std::move(set));
  if (directions.size() == 0) return {};
  directions = directions * (eigen.vectors * root.asDiagonal() * eigen.vectors.transpose());
  directions.rowwise().normalize();
  return nearest_orthogonal(directions);
}

/// Of the columns of dW~_k (or its rows, if `of_rows`) over all steps, for every pair of taps.
Matrix from_gradients(const Evidence& evidence, int64_t taps, bool of_rows) {
  Matrices set;
  const size_t steps = evidence.gradients.size() / static_cast<size_t>(taps);
  for (int64_t k = 0; k < taps; ++k)
    for (int64_t l = k; l < taps; ++l) {
      Matrix sum;
      for (size_t t = 0; t < steps; ++t) {
        const Matrix &a = evidence.gradients[t * static_cast<size_t>(taps) + static_cast<size_t>(k)],
                     &b = evidence.gradients[t * static_cast<size_t>(taps) + static_cast<size_t>(l)];
        const Matrix product = of_rows ? Matrix(a * b.transpose()) : Matrix(a.transpose() * b);
        sum = t == 0 ? product : Matrix(sum + product);
      }
      if (sum.size() != 0) add_even(set, sum);
    }
  return directions_of(std::move(set));
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const bool is_recorded = !layer.view.empty() && !layer.truth.empty();
  const Evidence evidence = is_recorded ? pool_evidence(layer) : Evidence();
  const auto finding = [&](const char* target, const Matrix& guess, bool of_right) {
    if (!is_recorded) return not_applicable(kNumber, target, "nothing recorded");
    const Matrix& key = of_right ? layer.truth.front().right : layer.truth.front().inner;
    if (guess.rows() < 2 || guess.rows() != key.rows())
      return not_applicable(kNumber, target, "nothing to diagonalise");
    Finding about;
    about.attack = kNumber;
    about.target = target;
    about.note = fmt::format("{} steps under {} keys", evidence.steps, evidence.keys);
    return key_finding(std::move(about), guess, key, random);
  };
  const bool has_products = evidence.products.size() != 0, has_gradients = !evidence.gradients.empty();
  const auto nothing = Matrix();
  return {
      finding(kProducts, has_products ? from_products(evidence) : nothing, false),
      finding(kDifferences, has_products ? from_differences(evidence) : nothing, false),
      finding(kGradientInner, has_gradients ? from_gradients(evidence, layer.taps(), false) : nothing, false),
      finding(kGradientRight, has_gradients ? from_gradients(evidence, layer.taps(), true) : nothing, true),
  };
}

}  // namespace
}  // namespace joint_diagonalisation

const Attack kJointDiagonalisation{joint_diagonalisation::kNumber,
                                   "joint diagonalisation",
                                   "Do covariances of blinded operands over many steps give the channel keys away?",
                                   "nothing; that the weight changes little from step to step",
                                   "Belouchrani et al., 1997 (SOBI); Cardoso, Souloumiac, 1996",
                                   joint_diagonalisation::run};

}  // namespace tempo::audit
