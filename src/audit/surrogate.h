/// Model stealing end to end: a surrogate built from what was recovered, fine-tuned with few labels, and compared with
/// what an attacker has who knows every weight (white box) or none (black box).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "audit/results.h"
#include "audit/victim.h"

namespace tempo::audit {

/// What an attacker may label or already holds.
struct Budget {
  std::string name;  ///< "50 queries", "5% of the training data"
  train::Dataset images;
  bool labelled_by_victim = false;  ///< queries; else the labels are the data's own
};

struct SurrogateOptions {
  int64_t steps = 200;  ///< of fine-tuning
  int64_t batch_size = 50;
  double lr = 0.02;
  int64_t transfer_images = 200;    ///< test images that are made adversarial
  int64_t membership_images = 500;  ///< members, and as many others
  double perturbation = 8.0 / 255;  ///< largest change of a pixel, of its range
  int threads = 1;
};

/// The victim, and the images on which a surrogate is judged.
struct StealTarget {
  nn::ModelOptions model;
  State state;
  train::Dataset members;  ///< the victim's training images
  train::Dataset test;
};

/// Budgets of 50 and 500 queries from `others`, and 1, 5 and 10% of the victim's training images.
std::vector<Budget> standard_budgets(const StealTarget& target, const train::Dataset& others);

/// A start for a surrogate: every weight at random, then `recovered` ones by layer name.
State surrogate_start(const nn::ModelOptions& model, const std::map<std::string, Operand>& recovered);

/// Fine-tunes `start` and judges the result. `start_from` names the row.
SurrogateResult steal(const StealTarget& target, const std::string& start_from, const State& start,
                      const Budget& budget, const SurrogateOptions& options);

}  // namespace tempo::audit
