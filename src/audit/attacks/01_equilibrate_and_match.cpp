/// Attack 1: equilibrate and match.
///
/// The attacker holds W~ and a weight near W: the public start of training, or W itself at an earlier step.
/// Under scaled permutations the rows and columns of W~ are those of W in another order, each times a number. Scaling
/// |W~| and the reference so that all rows hold equal energy, and all columns, removes those numbers; what is left is
/// one matrix in two orders. Channels are matched by their sorted values, then in place (balancing.h); scales follow
/// from the energies of the reference and signs from agreement with it.
/// Source: matrix balancing by R. Sinkhorn, P. Knopp, "Concerning nonnegative matrices and doubly stochastic matrices",
/// 1967; the matching is this project's.
/// Success: share of channels placed right; |cos| between the recovered weight and W.
/// Chance: of a random permutation; for values, the same procedure on the same W~ under fresh random orthogonal keys.
/// That keeps what the reference alone contributes: with a reference near W, fitted scales and signs are worth
/// something even where W~ tells nothing.
/// Dense keys do not make W~ a permuted W, and no order exists to be found.
#include <fmt/format.h>

#include "audit/algebra/balancing.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace equilibrate_and_match {
namespace {

constexpr int kNumber = 1;
constexpr const char* kOutputOrder = "order of output channels";
constexpr const char* kInputOrder = "order of input channels";
constexpr const char* kValues = "values of W";
constexpr const char* kOutputOrderLater = "order of output channels, from W of an earlier step";
constexpr const char* kInputOrderLater = "order of input channels, from W of an earlier step";

struct Guess {
  ChannelMatch match;
  Operand weight;  ///< W, in the order of the reference
};

Guess guess_from_reference(const Operand& blinded, const Operand& reference, const BalancedWeight& balanced) {
  Guess guess{.match = match_channels(balance(blinded), balanced), .weight = {}};
  guess.weight = fit_to_reference(blinded, reference, guess.match);
  return guess;
}

Finding order_finding(const char* target, const std::vector<int>& guess, const Matrix& key) {
  return scored(kNumber, target, "share of channels matched", share_of_channels_right(guess, destinations(key)),
                permutation_chance(key.rows()));
}

Finding values_finding(const Operand& recovered, const Operand& blinded, const Operand& reference, const Operand& plain,
                       Random& random) {
  const int trials = blinded.values.size() > 100'000 ? 4 : 10;
  const BalancedWeight balanced = balance(reference);
  const Chance chance = measure_chance(trials, [&] {
    return absolute_cosine(guess_from_reference(randomly_rotated(blinded, random), reference, balanced).weight, plain);
  });
  Finding finding = scored(kNumber, kValues, "absolute cosine with W", absolute_cosine(recovered, plain), chance);
  finding.note = fmt::format("the reference alone has {:.3f}", absolute_cosine(reference, plain));
  finding.recovered_weight = recovered;
  return finding;
}

void against_knowledge(const LayerCase& layer, Random& random, std::vector<Finding>& findings) {
  const int step = last_weight_step(layer);
  const Operand& reference = layer.knowledge.weight;
  if (step < 0 || reference.empty() || !reference.same_shape(layer.view[static_cast<size_t>(step)].w)) {
    const char* why = step < 0 ? "no weight was recorded" : "no weight near W is known";
    for (const char* target : {kOutputOrder, kInputOrder, kValues})
      findings.push_back(not_applicable(kNumber, target, why));
    return;
  }
  const Operand& blinded = layer.view[static_cast<size_t>(step)].w;
  const StepTruth& truth = layer.truth[static_cast<size_t>(step)];
  Guess guess = guess_from_reference(blinded, reference, balance(reference));
  findings.push_back(order_finding(kOutputOrder, guess.match.rows, truth.right));
  findings.push_back(order_finding(kInputOrder, guess.match.columns, truth.inner));
  const Operand plain = plain_weight(layer, step);
  findings.push_back(plain.empty() ? not_applicable(kNumber, kValues, "W was not recorded")
                                   : values_finding(guess.weight, blinded, reference, plain, random));
}

/// The last step before `step` whose W was recorded and whose keys are others; -1 if there is none.
int earlier_step(const LayerCase& layer, int step) {
  for (int t = step - 1; t >= 0; --t) {
    const StepTruth& truth = layer.truth[static_cast<size_t>(t)];
    const Matrix& inner = layer.truth[static_cast<size_t>(step)].inner;
    if (truth.w.empty() || truth.inner.rows() != inner.rows() || truth.inner.cols() != inner.cols()) continue;
    if (truth.inner != inner) return t;
  }
  return -1;
}

/// Can someone who knew W once follow it through new keys?
void against_earlier_step(const LayerCase& layer, std::vector<Finding>& findings) {
  const int step = last_weight_step(layer), known = step < 0 ? -1 : earlier_step(layer, step);
  if (known < 0) {
    for (const char* target : {kOutputOrderLater, kInputOrderLater})
      findings.push_back(not_applicable(kNumber, target, "W was not recorded under two different keys"));
    return;
  }
  const Operand& blinded = layer.view[static_cast<size_t>(step)].w;
  // Assumed to be known to this attacker: the one use of the truth in a guess.
  const Operand& reference = layer.truth[static_cast<size_t>(known)].w;
  const StepTruth& truth = layer.truth[static_cast<size_t>(step)];
  if (!reference.same_shape(blinded)) return;
  const ChannelMatch match = match_channels(balance(blinded), balance(reference));
  findings.push_back(order_finding(kOutputOrderLater, match.rows, truth.right));
  findings.push_back(order_finding(kInputOrderLater, match.columns, truth.inner));
  for (size_t i = findings.size() - 2; i < findings.size(); ++i)
    findings[i].note = fmt::format(
        "{} steps apart", layer.view[static_cast<size_t>(step)].step - layer.view[static_cast<size_t>(known)].step);
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  std::vector<Finding> findings;
  against_knowledge(layer, random, findings);
  against_earlier_step(layer, findings);
  return findings;
}

}  // namespace
}  // namespace equilibrate_and_match

const Attack kEquilibrateAndMatch{equilibrate_and_match::kNumber,
                                  "equilibrate and match",
                                  "Can a worker who knows nearly the same weights find yours behind the blinding?",
                                  "a weight near W: a public start, or W of an earlier step",
                                  "Sinkhorn, Knopp, 1967, for the balancing; the matching is Tempo's",
                                  equilibrate_and_match::run};

}  // namespace tempo::audit
