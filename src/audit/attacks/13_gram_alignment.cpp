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

#include "audit/algebra/gram_key.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace gram_alignment {
namespace {

constexpr int kNumber = 13;
const char* const kKnownTarget = "M, from activations of a similar model";
const char* const kLeakTarget = "M, if X of one step were known";

using Matrices = GramMatrices;

struct Effort {
  int pairs;
  GramEffort search;
};
Effort effort_for(int64_t channels) {
  if (channels > 192) return {4, {2, 6}};
  if (channels > 96) return {6, {2, 12}};
  return {6, {3, 20}};
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
  const Effort effort{effort_for(x.channels).pairs, {1, 2}};
  Chance chance = measure_chance(x.channels > 96 ? 3 : 8, [&] {
    const Matrices decoy = grams_of(decoy_activations(x, random), effort.pairs);
    return median_row_cosine(match_grams(decoy, seen, effort.search, random), layer.truth.front().inner);
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
    const Matrix found = match_grams(grams_of(known, effort.pairs), seen, effort.search, random);
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
