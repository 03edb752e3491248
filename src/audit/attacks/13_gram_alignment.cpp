// Gram alignment: orthogonal keys of rows cancel in products of X~ with itself, however deeply they mix.
//
// The attacker has: X~ of one step, and activations thought to be near X of the same batch: from an own model and known
//   inputs; or, for an upper bound, X itself (one leaked step).
// Algorithm: for positions p, q of a tile  X~_p^T X~_q = M^T (X_p^T X_q) M  as L is orthogonal. Eigenvectors of sums of
//   these matrices give M up to signs, all matrices together the signs, and alternating Procrustes steps with one M on
//   both sides refine it. Differences of positions are used too, and all is whitened, as the mean outweighs it.
// Source: Schoenemann 1966; spectral graph matching (Umeyama, IEEE PAMI 1988) on Gram matrices.
// Success: median |cos| of rows of the estimated and the true M, row by row: known activations give the order.
// Known to work: several positions; activations need not be exact. Under permutations with scales too: whitening takes
//   the scales of channels out, and those of rows average out. One position (1x1, linear) leaves the signs open.
// Chance: the same with random non-negative activations, half of them zero, of up to 512 rows; one start and two
//   rounds, as there is nothing to converge to. Its deviation is at least that of random directions,
//   as few decoys tell it badly.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"
#include "audit/algebra/separation.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace gram_alignment {
namespace {

constexpr int kNumber = 13;
const char* const kKnownTarget = "M, from activations of a similar model";
const char* const kLeakTarget = "M, if X of one step were known";

using Matrices = std::vector<Matrix>;

struct Effort {
  int pairs, starts, rounds;
};
Effort effort_for(int64_t channels) {
  if (channels > 192) return {4, 2, 6};
  if (channels > 96) return {6, 2, 12};
  return {6, 3, 20};
}

/// All Gram matrices whitened by the first one, which the logarithm of its spectrum replaces; without their traces and
/// of norm one. All of it turns with the keys as the matrices did. Without it the mean of the activations outweighs
/// everything else: with activations known to 20%, 64 channels came out at |cos| 0.13 instead of 0.99.
void make_even(Matrices& grams) {
  const Eigen::MatrixXd first = grams.front();
  const EigenPairs eigen = symmetric_eigen(grams.front());
  const Eigen::MatrixXd vectors = eigen.vectors;
  const double ridge = std::max(1e-4 * eigen.values.mean(), 1e-300);
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

/// The Gram matrix over four positions (more if rows are few), then for pairs of positions that of their difference and
/// their product.
Matrices grams_of(const Operand& x, int pairs) {
  const int64_t positions = x.positions(), d = x.channels;
  Matrices grams;
  Matrix sum = Matrix::Zero(d, d);
  const int64_t enough = 8 * d / std::max<int64_t>(1, x.rows);  // some samples for every unknown
  const int64_t samples = std::min(positions, std::max<int64_t>(4, enough));
  for (int64_t i = 0; i < samples; ++i) {
    const Matrix a = x.at_position(i * positions / samples);
    sum.selfadjointView<Eigen::Lower>().rankUpdate(a.transpose());
  }
  sum.triangularView<Eigen::StrictlyUpper>() = sum.transpose();
  grams.push_back(std::move(sum));
  for (int64_t i = 0; i < std::min<int64_t>(pairs, positions * (positions - 1) / 2); ++i) {
    // Neighbours and distant positions in turn, from all over the tile.
    const int64_t p = (i * positions / pairs) % positions;
    const int64_t q = (p + (i % 2 == 0 ? 1 : std::max<int64_t>(1, positions / 2))) % positions;
    const Matrix a = x.at_position(p), b = x.at_position(q), c = a - b;
    grams.push_back(c.transpose() * c);
    grams.push_back(a.transpose() * b);
  }
  make_even(grams);
  return grams;
}

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

Matrix start_from(const Matrices& known, const Matrices& seen, int start, Random& random) {
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
double agreement(const Matrices& known, const Matrices& seen, const Matrix& key, Matrix& pull) {
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

/// Orthogonal M with  seen_k ~ M^T known_k M.
Matrix guess_key(const Matrices& known, const Matrices& seen, const Effort& effort, Random& random) {
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

Operand decoy_activations(const Operand& shape, Random& random) {
  Operand decoy(std::min<int64_t>(shape.rows, 512), shape.height, shape.width, shape.channels);
  std::exponential_distribution<float> exponential;
  for (float& v : decoy.values) v = random() % 2 == 0 ? 0.0F : exponential(random);
  return decoy;
}

bool is_zero(const Operand& a) {
  return std::all_of(a.values.begin(), a.values.end(), [](float v) { return v == 0; });
}

std::string reason_against(const LayerCase& layer, const Operand& known) {
  if (layer.view.empty() || layer.truth.empty()) return "nothing recorded";
  const Operand& x = layer.view.front().x;
  if (known.empty()) return "no activations to align with";
  if (x.channels != known.channels || x.positions() != known.positions()) return "no activations of this shape";
  if (is_zero(x) || is_zero(known)) return "activations of zeros";
  return "";
}

/// What random activations score. It does not depend on what the attacker knows.
Chance chance_of(const LayerCase& layer, const Matrices& seen, Random& random) {
  const Operand& x = layer.view.front().x;
  const Effort effort{effort_for(x.channels).pairs, 1, 2};
  Chance chance = measure_chance(x.channels > 96 ? 3 : 8, [&] {
    const Matrices decoy = grams_of(decoy_activations(x, random), effort.pairs);
    return median_row_cosine(guess_key(decoy, seen, effort, random), layer.truth.front().inner);
  });
  // The median of d half-normal variables of scale 1/sqrt(d) has deviation 0.79/d.
  chance.stddev = std::max(chance.stddev, 0.79 / static_cast<double>(x.channels));
  return chance;
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  // For the second finding plain X is handed to the attacker, as if one step had leaked: an upper bound.
  const Operand none;
  const std::pair<const char*, const Operand&> targets[] = {
      {kKnownTarget, layer.knowledge.activations}, {kLeakTarget, layer.truth.empty() ? none : layer.truth.front().x}};
  std::vector<Finding> findings;
  Matrices seen;
  Chance chance;
  for (const auto& [target, known] : targets) {
    const std::string reason = reason_against(layer, known);
    if (!reason.empty()) {
      findings.push_back(not_applicable(kNumber, target, reason));
      continue;
    }
    const Operand& x = layer.view.front().x;
    const Effort effort = effort_for(x.channels);
    if (seen.empty()) {
      seen = grams_of(x, effort.pairs);
      chance = chance_of(layer, seen, random);
    }
    const Matrix found = guess_key(grams_of(known, effort.pairs), seen, effort, random);
    Finding finding = scored(kNumber, target, "median |cos| of rows of M",
                             median_row_cosine(found, layer.truth.front().inner), chance);
    finding.given_truth = target == kLeakTarget;
    finding.note = std::to_string(x.positions()) + (x.positions() == 1 ? " position" : " positions");
    findings.push_back(std::move(finding));
  }
  return findings;
}

}  // namespace
}  // namespace gram_alignment

const Attack kGramAlignment{gram_alignment::kNumber,
                            "Gram alignment",
                            "Do known activations of one batch give the key of the channels away?",
                            "activations near X of one batch; or X itself",
                            "Umeyama 1988; Schoenemann 1966",
                            gram_alignment::run};

}  // namespace tempo::audit
