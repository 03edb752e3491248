/// What every attack is: a function from a case to findings, with a chance level measured beside every score.
/// Each attack has a file of its own in attacks/; `attacks()` lists them by their numbers.
#pragma once

#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "audit/case.h"

namespace tempo::audit {

/// For attacks only: reproducible, and no secret.
using Random = std::mt19937_64;

/// One number that an attack got from one layer.
struct Finding {
  int attack = 0;
  std::string target;      ///< what was to be recovered, e.g. "order of output channels"
  std::string measure;     ///< what the score is, e.g. "share of channels matched"
  bool applicable = true;  ///< false: the attack has nothing to work on here; `note` says why, and the score is 0
  double score = 0;        ///< 0 to 1; 1 is full recovery
  double chance = 0;       ///< mean score of guessing, measured on decoys or exact
  double noise = 0;        ///< standard deviation of the score of guessing
  std::string note;        ///< one line, without values of tensors
  /// For keys that live long: training steps of pooled observation after which the attack is expected to win.
  std::optional<double> steps_to_win;
  /// The attack's estimate of W in the plain order of channels (an oracle chose the order and the signs: an upper bound
  /// for an attacker). Empty if it makes none.
  Operand recovered_weight;
  /// The attack was handed plain values that its attacker would first have to get: an upper bound.
  bool given_truth = false;

  /// Above five standard deviations of guessing, and by more than two hundredths. Five, because a table has some 150
  /// scores a setting, and matches of a random permutation have the long tail of a Poisson variable.
  [[nodiscard]] bool beats_chance() const { return applicable && score > chance + 5 * noise && score > chance + 0.02; }
  /// 0 at chance, 1 at full recovery; for comparing attacks with different chance levels.
  [[nodiscard]] double advantage() const {
    return !applicable || score <= chance || chance >= 1 ? 0 : (score - chance) / (1 - chance);
  }
};

/// A finding that says why there is nothing to attack.
inline Finding not_applicable(int attack, std::string target, std::string why) {
  Finding finding;
  finding.attack = attack;
  finding.target = std::move(target);
  finding.applicable = false;
  finding.note = std::move(why);
  return finding;
}

struct Attack {
  int number;
  const char* name;      ///< "equilibrate and match"
  const char* question;  ///< for a reader who decides whether to trust this: what could be learned, in one line
  const char* needs;     ///< what an attacker must have besides the view
  const char* source;    ///< where the idea comes from
  std::vector<Finding> (*run)(const LayerCase& layer, Random& random);
};

/// All attacks by number, without 16: error under the tolerance is an experiment on a whole run (tampering.h).
/// What the network of attack 20 is worth is measured in theft/stolen_network.h.
std::span<const Attack> attacks();

}  // namespace tempo::audit
