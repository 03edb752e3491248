// Variance ratio: is a tensor hidden by one number only, and does its norm survive?
//
// The attacker has: the blinded operands; for the first finding a weight thought to be near W.
// Algorithm: (a) a tensor times one scalar c has its norm times |c|, so c = +-|W~| / |W_ref|, the sign from the inner
//   product with the reference, and W = W~ / c. (b) The norm of a blinded operand is taken for that of the plain one.
// Source: SOTER's "morphing" of operators by scalars (Shen et al., USENIX ATC 2022), broken by the ratio of variances
//   in "No Privacy Left Outside" (Zhang et al., IEEE S&P 2024).
// Success: (a) share of the entries of W that are right to 1%; (b) share of the operands whose Frobenius norm is.
// Known to work: (a) one scalar per tensor; (b) orthogonal keys, which keep the norm of all they hide.
// Chance: the true scale times a decoy, log-uniform in [1/4, 4], the range of the keys of `permuted`: 0.7% for a norm.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace scalar_ratio {
namespace {

constexpr int kNumber = 4;
constexpr double kTolerance = 0.01;
constexpr int kTrials = 200;
const char* const kWeightTarget = "W, if one scalar hid it";
const char* const kNormTarget = "norms of the operands";

Eigen::Map<const Eigen::VectorXf> entries(const Operand& a) {
  return {a.values.data(), static_cast<Eigen::Index>(a.values.size())};
}

double norm(const Operand& a) { return entries(a).cast<double>().norm(); }

/// What W~ is W times, if it is that; 0 if the norms do not say.
double guess_scale(const Operand& blinded, const Operand& reference) {
  const double size = norm(blinded), known = norm(reference);
  if (!(size > 0) || !(known > 0)) return 0;
  const double inner = entries(blinded).cast<double>().dot(entries(reference).cast<double>());
  return inner < 0 ? -size / known : size / known;
}

/// Share of the entries of `truth` that blinded / scale gives to 1%; of large tensors every n-th is looked at.
double share_right(const Operand& blinded, double scale, const Operand& truth) {
  const size_t stride = std::max<size_t>(1, truth.values.size() / 20000);
  int64_t right = 0, all = 0;
  for (size_t i = 0; i < truth.values.size(); i += stride) {
    const double wanted = truth.values[i];
    if (wanted == 0) continue;
    ++all;
    right += std::abs(blinded.values[i] / scale - wanted) <= kTolerance * std::abs(wanted);
  }
  return all > 0 ? static_cast<double>(right) / static_cast<double>(all) : 0;
}

double decoy_scale(Random& random) {
  return std::exp(std::uniform_real_distribution<double>(-std::log(4.0), std::log(4.0))(random));
}

Finding weight_finding(const LayerCase& layer, Random& random) {
  if (layer.knowledge.weight.empty()) return not_applicable(kNumber, kWeightTarget, "no reference weight");
  const Operand& blinded = layer.view.front().w;
  const Operand& truth = layer.truth.front().w;
  if (!blinded.same_shape(layer.knowledge.weight) || !blinded.same_shape(truth))
    return not_applicable(kNumber, kWeightTarget, "no weight of this shape was recorded");
  const double scale = guess_scale(blinded, layer.knowledge.weight);
  if (scale == 0 || !(norm(truth) > 0)) return not_applicable(kNumber, kWeightTarget, "a weight of zeros");

  const double true_scale = std::copysign(norm(blinded) / norm(truth), scale);
  const Chance chance =
      measure_chance(kTrials, [&] { return share_right(blinded, true_scale * decoy_scale(random), truth); });
  Finding finding =
      scored(kNumber, kWeightTarget, "share of the entries right to 1%", share_right(blinded, scale, truth), chance);
  finding.recovered_weight = blinded;
  for (float& v : finding.recovered_weight.values) v = static_cast<float>(v / scale);
  return finding;
}

/// Norms of blinded operands, each with the norm of the plain one: the guess of the second is the first.
std::vector<std::pair<double, double>> norms(const LayerCase& layer) {
  std::vector<std::pair<double, double>> result;
  for (size_t t = 0; t < std::min(layer.view.size(), layer.truth.size()); ++t) {
    const StepView& view = layer.view[t];
    const StepTruth& truth = layer.truth[t];
    const std::pair<const Operand*, const Operand*> operands[] = {{&view.x, &truth.x},   {&view.w, &truth.w},
                                                                  {&view.y, &truth.y},   {&view.dy, &truth.dy},
                                                                  {&view.dx, &truth.dx}, {&view.dw, &truth.dw}};
    for (const auto& [blinded, plain] : operands) {
      if (blinded->empty() || !blinded->same_shape(*plain)) continue;
      const double size = norm(*plain);
      if (size > 0) result.emplace_back(norm(*blinded), size);
    }
  }
  return result;
}

Finding norm_finding(const LayerCase& layer, Random& random) {
  const auto pairs = norms(layer);
  if (pairs.empty()) return not_applicable(kNumber, kNormTarget, "no operand with its plain side was recorded");
  const auto share = [&](auto&& guess) {
    double right = 0;
    for (const auto& [blinded, plain] : pairs) right += std::abs(guess(blinded, plain) / plain - 1) <= kTolerance;
    return right / static_cast<double>(pairs.size());
  };
  const Chance chance =
      measure_chance(kTrials, [&] { return share([&](double, double plain) { return plain * decoy_scale(random); }); });
  Finding finding = scored(kNumber, kNormTarget, "share of the operands right to 1%",
                           share([](double blinded, double) { return blinded; }), chance);
  finding.note = std::to_string(pairs.size()) + " operands";
  return finding;
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  if (layer.view.empty() || layer.truth.empty())
    return {not_applicable(kNumber, kWeightTarget, "nothing recorded"),
            not_applicable(kNumber, kNormTarget, "nothing recorded")};
  return {weight_finding(layer, random), norm_finding(layer, random)};
}

}  // namespace
}  // namespace scalar_ratio

const Attack kScalarRatio{scalar_ratio::kNumber,
                          "scalar ratio",
                          "Is a tensor hidden by one number only, and does its size show?",
                          "a weight near W for the first finding; nothing for the second",
                          "SOTER's morphing (Shen et al. 2022), as attacked by Zhang et al. 2024",
                          scalar_ratio::run};

}  // namespace tempo::audit
