// Alignment with a reference weight: solve for both keys from a weight that is thought to be near W.
//
// The attacker has: W~ of every step and a reference W0 (a public start, or an own model of the same architecture).
// Algorithm: with orthogonal keys  W~_k = R^T W_k M  for every kernel tap k. Singular vectors and signs shared by all
//   taps give a start, alternating orthogonal Procrustes problems the keys (algebra/alignment.h). Keys on one side only
//   are one linear least-squares problem; it is believed where its residual is far below what fitting noise would give.
//   Keys of the first step decrypt the last one where W~ shows that they were kept; else the last step is solved anew.
// Source: Schoenemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966; least squares
//   against public weights as in Zhang et al., "No Privacy Left Outside", IEEE S&P 2024.
// Success: |cos| of the last W with the recovered one, and of what training added, W_last - W_first, which is the part
//   that a public start does not tell.
// Known to work: orthogonal keys and several taps. One tap (1x1, linear) leaves the signs open: W0 itself is then
//   reproduced, but not what training added. Not: keys with scales on both sides.
// Chance: the same procedure and reference with Gaussian noise, of the norm of W~, for W~. Noise in place of the
//   reference would be too low a level: any fit to a good reference resembles it, also where W~ tells nothing. Decoys
//   of large layers are cut to 48 channels, both sides by one factor: the level depends on unknowns per equation.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "audit/algebra/alignment.h"
#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace procrustes {
namespace {

constexpr int kNumber = 5;
constexpr int kTrials = 6;
constexpr int64_t kDecoyChannels = 48;
const char* const kWeightTarget = "W of the last step";
const char* const kChangeTarget = "what training added to W";

std::vector<Matrix> taps_of(const Operand& w) {
  std::vector<Matrix> taps;
  for (int64_t k = 0; k < w.positions(); ++k) taps.push_back(w.at_position(k));
  return taps;
}

double norm(const Operand& a) {
  double sum = 0;
  for (const float v : a.values) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

Operand difference(const Operand& a, const Operand& b) {
  Operand out = a;
  for (size_t i = 0; i < out.values.size(); ++i) out.values[i] -= b.values[i];
  return out;
}

/// W = left W~ right; an empty side is the identity.
struct Decryption {
  Matrix left, right;
  double misfit = 1;  ///< residual over that of fitting noise
  const char* keys = "orthogonal keys on both sides";
};

Decryption fit_both_sides(const Operand& reference, const Operand& blinded) {
  const int64_t m = blinded.rows, d = blinded.channels;
  const KeyPair keys = align_orthogonal(taps_of(reference), taps_of(blinded), std::max(m, d) > 128 ? 6 : 30);
  const double unknowns = static_cast<double>(m * m + d * d) / 2 / static_cast<double>(blinded.values.size());
  return {.left = keys.left,
          .right = keys.right.transpose(),
          .misfit = unknowns < 1 ? keys.residual / std::sqrt(2 * (1 - unknowns)) : 1};
}

/// blinded = reference N by least squares; N^-1, or nothing if there are too few equations or N is singular.
Decryption fit_one_side(const Matrix& reference, const Matrix& blinded) {
  Decryption result;
  if (reference.rows() < 2 * reference.cols()) return result;
  const Eigen::MatrixXd a = reference, b = blinded;
  const Eigen::MatrixXd gram = a.transpose() * a;
  const Eigen::MatrixXd key = solve_symmetric(gram, a.transpose() * b);
  if (!key.allFinite() || !is_invertible(key)) return result;
  result.right = inverse_of(key);
  const double noise = std::sqrt(1 - static_cast<double>(a.cols()) / static_cast<double>(a.rows()));
  result.misfit = (b - a * key).norm() / b.norm() / noise;
  return result;
}

/// The best of the three kinds of key, by what the attacker sees: the residual.
Decryption fit(const Operand& reference, const Operand& blinded) {
  Decryption best = fit_both_sides(reference, blinded);
  constexpr double kCredible = 0.5;
  Decryption inner = fit_one_side(reference.by_channel(), blinded.by_channel());
  inner.keys = "a key on the inputs only";
  if (inner.misfit < std::min(best.misfit, kCredible)) best = inner;
  Decryption outer = fit_one_side(reference.by_row().transpose(), blinded.by_row().transpose());
  if (outer.misfit < std::min(best.misfit, kCredible))
    best = {.left = outer.right.transpose(), .right = {}, .misfit = outer.misfit, .keys = "a key on the outputs only"};
  return best;
}

struct Guess {
  Operand weight, change;
  double misfit = 1;
  const char* keys = "";
};

/// The attack itself: from W~ of the first and the last step and the reference.
Guess guess(const Operand& first, const Operand& last, const Operand& reference) {
  // New keys change W~ by about its own size, training by far less.
  const bool keys_kept = norm(difference(last, first)) < 0.5 * norm(first);
  const Decryption d = fit(reference, keys_kept ? first : last);
  Guess result{.weight = transform(d.left, last, d.right), .change = {}, .misfit = d.misfit, .keys = d.keys};
  result.change =
      keys_kept ? transform(d.left, difference(last, first), d.right) : difference(result.weight, reference);
  return result;
}

/// The plain W of a step; of later steps it is not recorded, but keys and W~ give it:  W_k = R^-T W~_k M^T.
Operand true_weight(const StepView& view, const StepTruth& truth) {
  if (!truth.w.empty()) return truth.w;
  const Eigen::MatrixXd right = truth.right;
  return transform(inverse_of(right).transpose(), view.w, truth.inner.transpose());
}

std::vector<int64_t> some_of(int64_t size, int64_t count, Random& random) {
  std::vector<int64_t> all(static_cast<size_t>(size));
  std::iota(all.begin(), all.end(), 0);
  std::shuffle(all.begin(), all.end(), random);
  all.resize(static_cast<size_t>(count));
  return all;
}

Operand cut(const Operand& w, const std::vector<int64_t>& outs, const std::vector<int64_t>& ins) {
  Operand result(static_cast<int64_t>(outs.size()), w.height, w.width, static_cast<int64_t>(ins.size()));
  for (int64_t o = 0; o < result.rows; ++o)
    for (int64_t k = 0; k < w.positions(); ++k)
      for (int64_t c = 0; c < result.channels; ++c)
        result.at(o, k, c) = w.at(outs[static_cast<size_t>(o)], k, ins[static_cast<size_t>(c)]);
  return result;
}

Operand noise_like(const Operand& shape, double size, Random& random) {
  Operand out = shape;
  std::normal_distribution<double> normal;
  const double scale = size / std::sqrt(static_cast<double>(out.values.size()));
  for (float& v : out.values) v = static_cast<float>(scale * normal(random));
  return out;
}

struct Scores {
  double weight = 0, change = 0;
};

/// What the attack scores on blinded weights that are noise.
Scores decoy_scores(const LayerCase& layer, const Operand& true_last, const Operand& true_change, Random& random) {
  const Operand &first = layer.view.front().w, &last = layer.view.back().w, &reference = layer.knowledge.weight;
  const double factor =
      std::min(1.0, static_cast<double>(kDecoyChannels) / static_cast<double>(std::max(first.rows, first.channels)));
  const auto shrink = [&](int64_t n) { return std::max<int64_t>(1, std::llround(factor * static_cast<double>(n))); };
  const auto outs = some_of(first.rows, shrink(first.rows), random);
  const auto ins = some_of(first.channels, shrink(first.channels), random);
  const Operand known = cut(reference, outs, ins);
  const double size = norm(known), moved = norm(difference(last, first)) / norm(first);
  const Operand decoy_first = noise_like(known, size, random);
  Operand decoy_last = noise_like(known, size * std::min(moved, 1.0), random);
  if (moved < 0.5)
    for (size_t i = 0; i < decoy_last.values.size(); ++i) decoy_last.values[i] += decoy_first.values[i];
  const Guess decoy = guess(decoy_first, decoy_last, known);
  return {absolute_cosine(decoy.weight, cut(true_last, outs, ins)),
          true_change.empty() ? 0 : absolute_cosine(decoy.change, cut(true_change, outs, ins))};
}

std::vector<Finding> nothing(const char* why) {
  return {not_applicable(kNumber, kWeightTarget, why), not_applicable(kNumber, kChangeTarget, why)};
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  if (layer.view.empty() || layer.truth.size() != layer.view.size()) return nothing("nothing recorded");
  const Operand &first = layer.view.front().w, &last = layer.view.back().w, &reference = layer.knowledge.weight;
  if (reference.empty()) return nothing("no reference weight");
  if (!first.same_shape(reference) || !last.same_shape(reference)) return nothing("no weight of this shape recorded");
  const Operand true_last = true_weight(layer.view.back(), layer.truth.back());
  if (!(norm(first) > 0) || !(norm(reference) > 0) || !(norm(true_last) > 0)) return nothing("a weight of zeros");
  Operand true_change;
  if (layer.view.size() > 1) true_change = difference(true_last, true_weight(layer.view.front(), layer.truth.front()));
  const bool has_change = !true_change.empty() && norm(true_change) > 0;

  Guess found = guess(first, last, reference);
  std::vector<double> changes;
  const Chance weight_chance = measure_chance(kTrials, [&] {
    const Scores scores = decoy_scores(layer, true_last, true_change, random);
    changes.push_back(scores.change);
    return scores.weight;
  });
  // Decoys share W and the reference, so they do not tell how far two unrelated tensors agree by luck: |cos| of n
  // entries has deviation 0.6 / sqrt(n).
  const double least_noise = 0.6 / std::sqrt(static_cast<double>(true_last.values.size()));
  const std::string note = std::string(found.keys) + " fitted";
  Finding weight = scored(kNumber, kWeightTarget, "|cos| of recovered and true W",
                          absolute_cosine(found.weight, true_last), weight_chance);
  weight.noise = std::max(weight.noise, least_noise);
  weight.note = note;
  weight.recovered_weight = std::move(found.weight);
  if (!has_change) return {weight, not_applicable(kNumber, kChangeTarget, "the weight did not change while recorded")};

  size_t next = 0;
  const Chance change_chance = measure_chance(kTrials, [&] { return changes[next++]; });
  Finding change = scored(kNumber, kChangeTarget, "|cos| of recovered and true change of W",
                          absolute_cosine(found.change, true_change), change_chance);
  change.noise = std::max(change.noise, least_noise);
  change.note = note;
  return {weight, change};
}

}  // namespace
}  // namespace procrustes

const Attack kProcrustes{procrustes::kNumber,
                         "Procrustes alignment",
                         "Can the secret keys be solved for from a similar weight that is public?",
                         "a weight near W: a public start, or a model of its own",
                         "Schoenemann 1966; Zhang et al. 2024",
                         procrustes::run};

}  // namespace tempo::audit
