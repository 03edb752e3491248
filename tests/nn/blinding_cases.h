/// The settings under which blinded products must equal plain ones.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "offload/session.h"
#include "offload/transport/inprocess.h"
#include "train/config.h"

namespace tempo::testing {

/// Every scheme x reuse x weights that `validate` accepts.
inline std::vector<BlindingOptions> blinding_cases() {
  std::vector<BlindingOptions> cases;
  const auto add = [&](Protection protection, Coefficients coefficients) {
    for (const Reuse reuse : {Reuse::kFull, Reuse::kFresh, Reuse::kNone})
      for (const WeightPlacement weights : {WeightPlacement::kReturned, WeightPlacement::kResident}) {
        const bool resides = weights == WeightPlacement::kResident;
        if (resides && (protection == Protection::kPermuted || reuse != Reuse::kFull)) continue;
        cases.push_back({.protection = protection,
                         .coefficients = coefficients,
                         .reuse = reuse,
                         .weights = weights,
                         .conv_tile = 4,
                         .decoys = 0});
      }
  };
  add(Protection::kNone, Coefficients::kSignedReal);
  add(Protection::kPermuted, Coefficients::kPositiveInteger);
  add(Protection::kPermuted, Coefficients::kSignedReal);
  add(Protection::kRotated, Coefficients::kSignedReal);
  const std::vector<BlindingOptions> without_decoys = cases;
  for (BlindingOptions options : without_decoys)
    if (options.protection == Protection::kRotated) {
      options.decoys = 3;
      cases.push_back(options);
    }
  return cases;
}

inline std::unique_ptr<offload::Session> make_session(const BlindingOptions& options) {
  static const auto worker = offload::make_inprocess_worker("cpu", 1);
  // Verified throughout: whatever the setting, honest results must pass.
  return std::make_unique<offload::Session>(
      options, key_from_seed_insecure(11), worker, 2,
      integrity::PolicySetting{.policy = integrity::Policy::kAlways, .probability = 1});
}

}  // namespace tempo::testing
