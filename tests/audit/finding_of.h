/// Picks one finding of an attack by a part of its target.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "audit/attack.h"

namespace tempo::audit::testing {

inline const Finding& finding_of(const std::vector<Finding>& findings, const std::string& target) {
  for (const Finding& finding : findings)
    if (finding.target.find(target) != std::string::npos) return finding;
  ADD_FAILURE() << "no finding for " << target;
  static const Finding kNone;
  return findings.empty() ? kNone : findings.front();
}

/// Runs an attack with a fixed seed and checks that every figure is in range.
inline std::vector<Finding> run_checked(const Attack& attack, const LayerCase& layer) {
  Random random(11);
  std::vector<Finding> findings = attack.run(layer, random);
  EXPECT_FALSE(findings.empty());
  for (const Finding& f : findings)
    EXPECT_TRUE(f.score >= 0 && f.score <= 1 && f.chance >= 0 && f.chance <= 1 && f.noise >= 0) << f.target;
  return findings;
}

}  // namespace tempo::audit::testing
