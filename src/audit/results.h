/// Everything that one audit found: what `tempo-audit run` writes as JSON and `tempo-audit report` draws.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tempo::audit {

/// One way of running Tempo that was recorded and attacked.
struct SettingResult {
  std::string name;         ///< short and unique, e.g. "rotated resident tile 4"
  std::string flags;        ///< of `tempo train`, e.g. "--protection rotated --weights resident --conv-tile 4"
  bool is_default = false;  ///< what the program does when nothing is said
  // What it costs, on the machine of the audit, in training steps of the recording.
  double tee_cpu_seconds_per_sample = 0;
  double blind_seconds_per_sample = 0;  ///< wall: deriving keys, blinding, un-blinding
  double bytes_per_sample = 0;          ///< to and from the worker
};

/// One number of one attack on one layer under one setting; see `Finding` in attack.h.
struct FindingResult {
  std::string setting;  ///< SettingResult::name
  std::string start;    ///< what the attacker knows of the initial weights: "secret" or "public"
  std::string layer;
  int attack = 0;
  std::string target, measure;
  bool applicable = true;
  double score = 0, chance = 0, noise = 0;
  bool beats_chance = false;
  bool counterfactual = false;  ///< of a layer that Tempo never offloads, blinded to show why
  bool given_truth = false;  ///< an upper bound: the attacker was handed plain values that it would have to get first
  std::string note;
  std::optional<double> steps_to_win;
  double seconds = 0;
};

/// How an attack that pools steps gets on with the number of steps: measured points.
struct PoolingCurve {
  std::string setting, layer;
  std::vector<double> steps, score;
  double chance = 0;
};

/// A model built from what was recovered, after fine-tuning with so many labelled examples. All figures 0 to 1.
struct SurrogateResult {
  std::string start_from;  ///< a SettingResult::name, or "white box" (every weight) or "black box" (none)
  std::string budget;      ///< "50 queries", "5% of the training data"
  double accuracy = 0;     ///< on the test images
  double fidelity = 0;     ///< share of test images on which surrogate and victim say the same
  double transfer = 0;     ///< share of adversarial images made on the surrogate that the victim then gets wrong
  double membership = 0;   ///< area under the curve of telling training images from others by the surrogate's loss
};

struct InformationResult {
  std::string setting, layer;
  double left_key_bits = 0, inner_key_bits = 0, right_key_bits = 0;  ///< log2 of the number of keys
  double mutual_information_bits = 0;  ///< estimate between one blinded and one plain entry of X at the same place
  /// How deeply keys mix: effective number of rows in a row of X~ (decoys count by their energy), out of so many; of
  /// output channels in one of dW~. See `effective_count` in information.h.
  double rows = 0, rows_mixed = 0, channels_mixed = 0;
};

/// What a worker gets by adding an error of this size, relative to each result's norm, at every step.
struct TamperingResult {
  double relative_error = 0;
  double final_loss = 0, test_accuracy = 0;  ///< with integrity=off
  bool is_refused = false;                   ///< with integrity=always
};

/// A victim: one model trained for this audit.
struct VictimResult {
  std::string model, data;
  int64_t train_images = 0, test_images = 0, steps_trained = 0, batch_size = 0;
  double test_accuracy = 0;
  std::vector<std::string> layers;  ///< recorded ones
  int64_t steps_recorded = 0;
};

/// Below this a victim is too close to guessing for a copy of it to be told from a guess.
inline constexpr double kLeastVictimAccuracy = 0.4;

struct AuditResults {
  std::string version;  ///< of Tempo
  std::string command;  ///< that made this
  std::string date;     ///< ISO 8601, UTC
  std::string machine;  ///< CPU, cores
  VictimResult victim;
  std::vector<SettingResult> settings;
  std::vector<FindingResult> findings;
  std::vector<PoolingCurve> pooling;
  std::vector<SurrogateResult> surrogates;
  std::vector<InformationResult> information;
  std::vector<TamperingResult> tampering;
};

}  // namespace tempo::audit
