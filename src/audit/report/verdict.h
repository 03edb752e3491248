/// What the audit says about the default setting, in plain words: the first thing in every report.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "audit/attack.h"
#include "audit/results.h"

namespace tempo::audit {

/// A surrogate may gain this many points of accuracy over black box before it counts: about the scatter of retraining.
inline constexpr double kSurrogateTolerancePoints = 2.0;

/// How much a surrogate built under a setting gains over black box with the same budget.
struct SurrogateGain {
  const SurrogateResult* surrogate = nullptr;
  const SurrogateResult* black_box = nullptr;
  const SurrogateResult* white_box = nullptr;  ///< null if it was not measured for this budget
  double points = 0;                           ///< of accuracy, 0 to 100
};

/// The budget with the largest gain; absent if no budget has both a surrogate of the setting and a black box.
std::optional<SurrogateGain> largest_gain(const AuditResults& results, const std::string& setting);

struct Verdict {
  enum class Kind {
    kAtChance,     ///< all was run, nothing beats chance
    kIncomplete,   ///< nothing beats chance, but an attack or the surrogates were not run
    kNotAtChance,  ///< something beats chance
    kNone          ///< no default setting, or nothing was measured under it
  };
  Kind kind = Kind::kNone;
  std::string headline;              ///< one sentence; "NOT at chance: ..." where that is so
  std::vector<std::string> reasons;  ///< what beats chance and by how much, worst first
  std::vector<std::string> remarks;  ///< what was not run, surrogates, long recordings, public start
};

/// The verdict on the setting with is_default, on layers that Tempo offloads, under a secret start. Plain text: escape
/// it.
Verdict verdict(const AuditResults& results, std::span<const Attack> attacks);

}  // namespace tempo::audit
