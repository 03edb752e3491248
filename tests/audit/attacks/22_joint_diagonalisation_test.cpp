// Independent channels of different variance give their key away; channels that are all alike do not.
#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/gradient_case.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_22_joint_diagonalisation_test {

using testing::finding_of;
using testing::run_checked;

constexpr testing::SyntheticOptions kVictim{
    .images = 64, .tiles_y = 4, .tiles_x = 4, .tile = 2, .in = 16, .out = 4, .steps = 4, .steps_per_key = 4};

TEST(JointDiagonalisation, ChannelsOfDifferentVarianceGiveTheirKeyAway) {
  const auto findings = run_checked(kJointDiagonalisation, testing::synthetic_case(kVictim, {.protection = "rotated"}));
  const Finding& differences = finding_of(findings, "differences of positions");
  EXPECT_GT(differences.score, 0.85);
  EXPECT_TRUE(differences.beats_chance());
}

TEST(JointDiagonalisation, NewKeysEveryStepDoNotHelp) {
  testing::SyntheticOptions options = kVictim;
  options.steps_per_key = 1;
  const auto findings = run_checked(kJointDiagonalisation, testing::synthetic_case(options, {.protection = "rotated"}));
  EXPECT_GT(finding_of(findings, "differences of positions").score, 0.85);
}

TEST(JointDiagonalisation, GradientsOfChannelsThatAreAllAlikeHideTheKeys) {
  const auto findings = run_checked(kJointDiagonalisation, testing::gradient_case({.steps = 40}));
  EXPECT_FALSE(finding_of(findings, "M, from covariances between taps").beats_chance());
  EXPECT_FALSE(finding_of(findings, "R, from covariances between taps").beats_chance());
  EXPECT_FALSE(finding_of(findings, "differences of positions").applicable);  // no activations were sent
}

TEST(JointDiagonalisation, MissingAndTinyOperandsAreHandled) {
  for (const Finding& f : run_checked(kJointDiagonalisation, LayerCase{})) EXPECT_FALSE(f.applicable);
  for (const testing::SyntheticOptions& o : {testing::SyntheticOptions{.in = 1, .out = 1},
                                             {.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1},
                                             {.images = 2, .in = 3, .out = 2, .steps = 2, .zeros = 1}})
    run_checked(kJointDiagonalisation, testing::synthetic_case(o, {.protection = "rotated"}));
}

}  // namespace attack_22_joint_diagonalisation_test
}  // namespace tempo::audit
