/// The settings under which blinded products must equal plain ones.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "offload/session.h"
#include "offload/transport/inprocess.h"
#include "support/rows_in_panels.h"
#include "support/rows_permuted.h"
#include "train/config.h"

namespace tempo::testing {

/// Every scheme x reuse x weights that `validate` accepts.
inline std::vector<BlindingOptions> blinding_cases() {
  std::vector<BlindingOptions> cases;
  const auto add = [&](const std::string& protection, Coefficients coefficients) {
    for (const Reuse reuse : {Reuse::kFull, Reuse::kSplit, Reuse::kFresh, Reuse::kNone})
      for (const WeightPlacement weights : {WeightPlacement::kReturned, WeightPlacement::kResident}) {
        const bool resides = weights == WeightPlacement::kResident, is_oblique = protection == "oblique";
        if (resides && (protection == "permuted" || is_oblique || reuse != Reuse::kFull)) continue;
        if (reuse == Reuse::kSplit && !is_oblique && protection != "rotated") continue;
        cases.push_back({.protection = protection,
                         .coefficients = coefficients,
                         .reuse = reuse,
                         .weights = weights,
                         .conv_tile = 4,
                         .decoys = 0});
      }
  };
  add("none", Coefficients::kSignedReal);
  add("permuted", Coefficients::kPositiveInteger);
  add("permuted", Coefficients::kSignedReal);
  add("rotated", Coefficients::kSignedReal);
  add("oblique", Coefficients::kSignedReal);
  for (const char* of_tests : {"rows-permuted", "rows-in-panels"}) add(of_tests, Coefficients::kSignedReal);
  const std::vector<BlindingOptions> without_decoys = cases;
  for (BlindingOptions options : without_decoys)
    if (options.protection == "rotated") {
      options.decoys = 3;
      cases.push_back(options);
    } else if (options.protection == "oblique" && options.reuse != Reuse::kNone) {
      options.conv_tile = 1;  // then keys act on whole rows
      for (const double decoys : {0, 3}) {
        options.decoys = decoys;
        cases.push_back(options);
      }
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
