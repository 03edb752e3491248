// Kernels before a batch norm give their key away; kernels that no norm follows do not.
#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/gradient_case.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_26_scale_invariance_test {

using testing::finding_of;
using testing::gradient_case;
using testing::run_checked;

TEST(ScaleInvariance, KernelsBeforeANormGiveTheirKeyAway) {
  const LayerCase layer = gradient_case({.steps = 40, .before_norm = true});
  const Finding right = finding_of(run_checked(kScaleInvariance, layer), "R, from kernels");
  EXPECT_GT(right.score, 0.999);
  EXPECT_TRUE(right.beats_chance());
}

TEST(ScaleInvariance, NewKeysEveryTenStepsDoNotHelp) {
  const LayerCase layer = gradient_case({.steps = 40, .steps_per_key = 10, .before_norm = true});
  EXPECT_GT(finding_of(run_checked(kScaleInvariance, layer), "R, from kernels").score, 0.99);
}

TEST(ScaleInvariance, SparseGradientsThenGiveTheOtherKeyAway) {
  const LayerCase layer = gradient_case({.steps = 60, .zeros = 0.8, .before_norm = true});
  const Finding inner = finding_of(run_checked(kScaleInvariance, layer), "M, from gradients");
  EXPECT_GT(inner.score, 0.95);
  EXPECT_TRUE(inner.beats_chance());
}

TEST(ScaleInvariance, KernelsThatNoNormFollowsStayHidden) {
  const LayerCase layer = gradient_case({.steps = 40});
  for (const Finding& finding : run_checked(kScaleInvariance, layer)) {
    EXPECT_TRUE(finding.applicable);
    EXPECT_FALSE(finding.beats_chance()) << finding.target;
  }
}

TEST(ScaleInvariance, FewerEquationsThanUnknownsLeaveTheKeyOpen) {
  const LayerCase layer = gradient_case({.steps = 4, .before_norm = true});
  EXPECT_FALSE(finding_of(run_checked(kScaleInvariance, layer), "R, from kernels").beats_chance());
}

TEST(ScaleInvariance, MissingAndTinyOperandsAreHandled) {
  for (const Finding& f : run_checked(kScaleInvariance, LayerCase{})) EXPECT_FALSE(f.applicable);
  for (const testing::SyntheticOptions& o : {testing::SyntheticOptions{.in = 1, .out = 1},
                                             {.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1},
                                             {.images = 2, .in = 3, .out = 2, .steps = 2, .zeros = 1}})
    run_checked(kScaleInvariance, testing::synthetic_case(o, {.protection = "rotated"}));
}

}  // namespace attack_26_scale_invariance_test
}  // namespace tempo::audit
