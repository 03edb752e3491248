// Key linking: do new keys at every step really separate the steps?
//
// The attacker has: W~ of two steps under different keys, and the knowledge that one step of training changes W little.
// Algorithm: under orthogonal keys  W~_t+1 = (R_t^T R_t+1)^T W~_t (M_t^T M_t+1)  but for that little, so aligning the
//   two (algebra/alignment.h) gives the change of keys, and what one step leaks adds to the next. Under permutations
//   and scales the rotation does not fit; there, channels are linked by what scales and order leave alone: sorted
//   magnitudes after balancing |W~| (all rows and columns of one norm), and second moments of kernel directions.
// Source: Schoenemann 1966 (Procrustes); Sinkhorn and Knopp 1967 (balancing); subspaces of reused masks as in
//   the cryptanalysis of obfuscated matrix products, e.g. Zhang et al., IEEE S&P 2024.
// Success: median |cos| of rows of the estimated and the true change of M, row by row; share of input channels linked.
//   Scoring picks the pair of successive recorded steps, nearest in time, whose keys differ.
// Known to work: orthogonal keys with several taps; permutations with scales. One tap leaves the signs of a rotation
//   open, which spoils its rows.
// Chance: random orthogonal matrices for the change; one in `channels` for the order.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "audit/algebra/alignment.h"
#include "audit/algebra/balancing.h"
#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace key_linking {
namespace {

constexpr int kNumber = 11;
const char* const kRotationTarget = "keys of successive steps: rotation";
const char* const kOrderTarget = "keys of successive steps: order of channels";

struct RotationGuess {
  Matrix change;
  double residual = 1;
};

RotationGuess guess_rotation(const Operand& before, const Operand& after) {
  std::vector<Matrix> from, to;
  for (int64_t k = 0; k < before.positions(); ++k) {
    from.push_back(before.at_position(k));
    to.push_back(after.at_position(k));
  }
  KeyPair keys = align_orthogonal(from, to, std::max(before.rows, before.channels) > 128 ? 6 : 30);
  return {std::move(keys.right), keys.residual};
}

/// Mean over output channels of u u^T, u the kernel of one input channel as a unit vector over taps: [in, taps^2].
Matrix direction_moments(const Operand& w) {
  const int64_t taps = w.positions();
  Matrix moments = Matrix::Zero(w.channels, taps * taps);
  Vector u(taps);
  for (int64_t c = 0; c < w.channels; ++c)
    for (int64_t o = 0; o < w.rows; ++o) {
      for (int64_t k = 0; k < taps; ++k) u[k] = w.at(o, k, c);
      const double norm = u.norm();
      if (!(norm > 0)) continue;
      u /= norm;
      for (int64_t k = 0; k < taps; ++k) moments.row(c).segment(k * taps, taps) += u[k] * u.transpose();
    }
  return moments / static_cast<double>(std::max<int64_t>(1, w.rows));
}

/// Squared distances of rows, in units of the spread of rows within `a`.
Matrix distances(const Matrix& a, const Matrix& b) {
  const Eigen::RowVectorXd mean = a.colwise().mean();
  const double spread = (a.rowwise() - mean).rowwise().squaredNorm().mean();
  // Centred, so that nothing cancels.
  const Matrix u = a.rowwise() - mean, v = b.rowwise() - mean;
  Matrix result = -2 * u * v.transpose();
  result.colwise() += u.rowwise().squaredNorm();
  result.rowwise() += v.rowwise().squaredNorm().transpose();
  return spread > 0 ? Matrix(result / spread) : Matrix::Zero(a.rows(), b.rows());
}

/// For every input channel of `before` the one of `after` that looks the same.
std::vector<int> guess_order(const Operand& before, const Operand& after) {
  Matrix gain = -distances(balance(before).sorted_inputs, balance(after).sorted_inputs);
  if (before.positions() > 1) gain -= distances(direction_moments(before), direction_moments(after));
  return assign(gain);
}

/// Index of the first of the two successive steps, nearest in time, under different keys.
std::optional<size_t> pair_of_steps(const LayerCase& layer) {
  std::optional<size_t> best;
  int64_t best_gap = 0;
  for (size_t t = 0; t + 1 < std::min(layer.view.size(), layer.truth.size()); ++t) {
    const Matrix &a = layer.truth[t].inner, &b = layer.truth[t + 1].inner;
    if (layer.view[t].w.empty() || !layer.view[t].w.same_shape(layer.view[t + 1].w)) continue;
    if (a.size() == 0 || a.rows() != b.rows() || a == b) continue;
    const int64_t gap = std::abs(layer.view[t + 1].step - layer.view[t].step);
    if (!best || gap < best_gap) {
      best = t;
      best_gap = gap;
    }
  }
  return best;
}

/// The plain channel that every blinded channel holds; nothing if keys mix channels.
std::optional<std::vector<int>> plain_of(const Matrix& inner) {
  std::vector<int> plain;
  for (Eigen::Index j = 0; j < inner.cols(); ++j) {
    Eigen::Index row = 0;
    const double largest = inner.col(j).cwiseAbs().maxCoeff(&row);
    if (inner.col(j).norm() > largest * (1 + 1e-6)) return std::nullopt;
    plain.push_back(static_cast<int>(row));
  }
  return plain;
}

Finding rotation_finding(const LayerCase& layer, size_t t, Random& random) {
  const RotationGuess found = guess_rotation(layer.view[t].w, layer.view[t + 1].w);
  // On the side of the weight:  W~_t+1 = (..) W~_t M_t^T M_t+1^-T.
  const Eigen::MatrixXd after = layer.truth[t + 1].inner;
  const Matrix truth = layer.truth[t].inner.transpose() * inverse_of(after).transpose();
  const Chance chance =
      measure_chance(20, [&] { return median_row_cosine(random_orthogonal(truth.rows(), random), truth); });
  Finding finding = scored(kNumber, kRotationTarget, "median |cos| of rows of the change of M",
                           median_row_cosine(found.change, truth), chance);
  finding.note = "relative residual " + std::to_string(found.residual).substr(0, 6) + ", " +
                 std::to_string(layer.view[t + 1].step - layer.view[t].step) + " steps apart";
  return finding;
}

Finding order_finding(const LayerCase& layer, size_t t) {
  const auto before = plain_of(layer.truth[t].inner), after = plain_of(layer.truth[t + 1].inner);
  if (!before || !after) return not_applicable(kNumber, kOrderTarget, "keys mix channels: there is no order to find");
  const std::vector<int> found = guess_order(layer.view[t].w, layer.view[t + 1].w);
  double right = 0;
  for (size_t j = 0; j < found.size(); ++j)
    right += found[j] >= 0 && (*before)[j] == (*after)[static_cast<size_t>(found[j])];
  Finding finding =
      scored(kNumber, kOrderTarget, "share of input channels linked", right / static_cast<double>(found.size()),
             permutation_chance(static_cast<int64_t>(found.size())));
  finding.note = std::to_string(layer.view[t + 1].step - layer.view[t].step) + " steps apart";
  return finding;
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto pair = pair_of_steps(layer);
  if (!pair) {
    const char* why = layer.view.size() < 2 ? "one step recorded" : "keys did not change while recorded";
    return {not_applicable(kNumber, kRotationTarget, why), not_applicable(kNumber, kOrderTarget, why)};
  }
  return {rotation_finding(layer, *pair, random), order_finding(layer, *pair)};
}

}  // namespace
}  // namespace key_linking

const Attack kKeyLinking{key_linking::kNumber,
                         "key linking",
                         "Do new keys at every step keep the steps apart?",
                         "W~ of two steps under different keys",
                         "Schoenemann 1966; Sinkhorn, Knopp 1967",
                         key_linking::run};

}  // namespace tempo::audit
