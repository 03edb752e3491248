// Both keys fall where entries of gradients are sparse and independent, and not where they are normal.
#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/gradient_case.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_24_two_sided_separation_test {

using testing::gradient_case;
using testing::run_checked;

TEST(TwoSidedSeparation, SparseIndependentEntriesGiveBothKeysAway) {
  for (const Finding& finding : run_checked(kTwoSidedSeparation, gradient_case({.steps = 60, .zeros = 0.9}))) {
    EXPECT_GT(finding.score, 0.95) << finding.target;
    EXPECT_TRUE(finding.beats_chance()) << finding.target;
  }
}

TEST(TwoSidedSeparation, NewKeysEveryTenStepsDoNotHelp) {
  const LayerCase layer = gradient_case({.steps = 60, .steps_per_key = 10, .zeros = 0.9});
  for (const Finding& finding : run_checked(kTwoSidedSeparation, layer))
    EXPECT_GT(finding.score, 0.9) << finding.target;
}

TEST(TwoSidedSeparation, NormalEntriesHideBothKeys) {
  for (const Finding& finding : run_checked(kTwoSidedSeparation, gradient_case({.steps = 40}))) {
    EXPECT_TRUE(finding.applicable);
    EXPECT_FALSE(finding.beats_chance()) << finding.target;
  }
}

TEST(TwoSidedSeparation, MissingAndTinyOperandsAreHandled) {
  for (const Finding& f : run_checked(kTwoSidedSeparation, LayerCase{})) EXPECT_FALSE(f.applicable);
  for (const testing::SyntheticOptions& o : {testing::SyntheticOptions{.in = 1, .out = 1},
                                             {.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1},
                                             {.images = 2, .in = 3, .out = 2, .steps = 2, .zeros = 1}})
    run_checked(kTwoSidedSeparation, testing::synthetic_case(o, {.protection = "rotated"}));
}

}  // namespace attack_24_two_sided_separation_test
}  // namespace tempo::audit
