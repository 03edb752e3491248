/// One audit from end to end: train a victim, record it under every setting, attack, steal, tamper.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "audit/results.h"
#include "audit/surrogate.h"
#include "audit/victim.h"

namespace tempo::audit {

struct AuditOptions {
  VictimOptions victim;
  std::string data = "synthetic";  ///< a CIFAR-10 folder, or generated images
  int64_t synthetic_images = 2000;
  int64_t synthetic_side = 32;  ///< of the generated images, in pixels
  /// Images of the training set that the victim never sees: the attacker's own. As a share.
  double attackers_share = 0.2;
  std::string victim_file, reference_file;  ///< safetensors of trained weights; "" trains anew
  std::filesystem::path save_weights;       ///< folder to leave them in; "" does not
  std::filesystem::path save_views;         ///< folder for recordings; "" does not
  std::vector<Setting> settings;            ///< the program's default is marked by `default_setting`
  std::string default_setting;
  RecordOptions recording;
  std::vector<std::string> layers;          ///< to be attacked; empty: `attacked_layers`
  std::vector<int> attacks;                 ///< numbers; empty: all
  std::vector<std::string> steal_settings;  ///< whose recovered weights start a surrogate; empty: none is made
  SurrogateOptions surrogate;
  double patience = 1;  ///< see LayerCase
  size_t budgets = 5;
  int64_t cost_steps = 8;
  int64_t tampering_steps = 100;
  std::vector<double> tampering_errors = {0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1};
  std::function<void(const std::string&)> progress = [](const std::string&) {};
};

/// Every setting of the standard table: schemes, coefficients, reuse, weights, tiles. The default is
/// `default_setting()`.
std::vector<Setting> standard_settings();
/// A few of them, for `--quick`.
std::vector<Setting> quick_settings();
/// What `tempo train` does with SGD when nothing is said.
Setting default_setting();
/// Flags of `tempo train` for a setting.
std::string flags_of(const Setting& setting);

/// @throws InputError for options that do not fit; RunError if training fails.
AuditResults run_audit(const AuditOptions& options);

}  // namespace tempo::audit
