/// Model stealing end to end: a surrogate built from what was recovered, fine-tuned with few labels, and compared with
/// what an attacker has who knows every weight (white box) or none (black box).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "audit/results.h"
#include "audit/victim.h"
#include "train/trainer.h"

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
  int64_t head_steps = 500;         ///< of training the head of a stolen network (attack 20)
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

/// From images [n, channels, height, width], normalised, to logits [n, classes].
using Classifier = std::function<torch::Tensor(const torch::Tensor&)>;

/// A whole data set as one batch.
using BatchedImages = train::BatchTensors;
BatchedImages all_images(const train::Dataset& images);
/// Logits in batches, without gradients.
torch::Tensor logits_of(const Classifier& classify, const torch::Tensor& images);

/// Labels of a budget's images, from where the attacker has them.
torch::Tensor budget_labels(const StealTarget& target, const Budget& budget, const BatchedImages& images);

/// Compares a surrogate, ready for evaluation, with the victim.
SurrogateResult judge(const StealTarget& target, const std::string& start_from, const std::string& budget,
                      const Classifier& surrogate, const SurrogateOptions& options);

/// Fine-tunes `start` and judges the result. `start_from` names the row.
SurrogateResult steal(const StealTarget& target, const std::string& start_from, const State& start,
                      const Budget& budget, const SurrogateOptions& options);

}  // namespace tempo::audit
