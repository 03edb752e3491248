// Keys that are not orthogonal are linked where something plain goes through them twice, and not where nothing does.
#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/gradient_case.h"
#include "audit/step_blinder.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_27_oblique_linking_test {

using testing::finding_of;
using testing::gradient_case;
using testing::run_checked;
using testing::synthetic_case;

/// Single positions, as rows of all taps are to a key: no pooling over taps.
constexpr testing::SyntheticOptions kRows{
    .images = 512, .tiles_y = 2, .tiles_x = 2, .tile = 1, .kernel = 1, .in = 24, .out = 6, .steps = 4};

BlindingOptions oblique(Reuse reuse) { return {.protection = "oblique", .reuse = reuse}; }

/// The same plain step again and again, under new keys.
LayerCase repeated_case(Reuse reuse) {
  LayerCase layer = synthetic_case(kRows, oblique(reuse));
  StepTruth truth = layer.truth.front();
  StepBlinder blinder(oblique(reuse), derive_key(key_from_seed_insecure(5), "audit-test"), truth.x.rows, kRows.in,
                      kRows.out);
  for (size_t t = 0; t < layer.view.size(); ++t) {
    layer.view[t] = blinder.blind(truth);
    layer.view[t].step = static_cast<int64_t>(t);
    layer.truth[t] = truth;
    blinder.renew_channels();
  }
  return layer;
}

TEST(ObliqueLinking, OneRightKeyForBothDirectionsIsLinked) {
  const auto findings = run_checked(kObliqueLinking, synthetic_case(kRows, oblique(Reuse::kFull)));
  for (const char* target : {"R of successive steps, by forms", "M of successive steps, by forms"}) {
    const Finding& finding = finding_of(findings, target);
    EXPECT_GT(finding.score, 0.9) << target;
    EXPECT_TRUE(finding.beats_chance()) << target;
  }
}

TEST(ObliqueLinking, KeysOfTheirOwnForEachDirectionAreNotLinked) {
  for (const Finding& f : run_checked(kObliqueLinking, synthetic_case(kRows, oblique(Reuse::kSplit))))
    EXPECT_FALSE(f.beats_chance()) << f.target << " " << f.score << " " << f.chance;
}

TEST(ObliqueLinking, EqualGradientsAreLinkedUnderAnyKeys) {
  const auto findings = run_checked(kObliqueLinking, repeated_case(Reuse::kSplit));
  for (const char* target : {"R of successive steps, by correlations", "M of successive steps, by correlations",
                             "right key of dY, by correlations", "M of successive steps, leading"}) {
    const Finding& finding = finding_of(findings, target);
    EXPECT_GT(finding.score, 0.999) << target;
    EXPECT_TRUE(finding.beats_chance()) << target;
  }
  EXPECT_FALSE(finding_of(findings, "R of successive steps, by forms").beats_chance());
  EXPECT_FALSE(finding_of(findings, "R of successive steps, by singular vectors").beats_chance());
}

TEST(ObliqueLinking, TapsThatShareTheirKeysAreLinked) {
  testing::SyntheticOptions options = kRows;
  options.kernel = 3;
  options.images = 4;
  options.in = 8;
  const auto findings = run_checked(kObliqueLinking, synthetic_case(options, oblique(Reuse::kSplit)));
  for (const char* target : {"R of successive steps, by all taps", "M of successive steps, by all taps"}) {
    EXPECT_GT(finding_of(findings, target).score, 0.99) << target;
    EXPECT_TRUE(finding_of(findings, target).beats_chance()) << target;
  }
  EXPECT_FALSE(finding_of(run_checked(kObliqueLinking, synthetic_case(kRows, oblique(Reuse::kFull))),
                          "R of successive steps, by all taps")
                   .applicable);
}

TEST(ObliqueLinking, LinkedStepsGiveKernelsBeforeANormAway) {
  testing::GradientOptions options{
      .in = 8, .out = 8, .steps = 40, .steps_per_key = 1, .before_norm = true, .protection = "oblique"};
  const auto findings = run_checked(kObliqueLinking, gradient_case(options));
  EXPECT_GT(finding_of(findings, "linked by taps").score, 0.99);
  EXPECT_TRUE(finding_of(findings, "linked by taps").beats_chance());
  EXPECT_FALSE(finding_of(findings, "linked by forms").applicable);  // no activations were sent
  options.before_norm = false;
  EXPECT_FALSE(finding_of(run_checked(kObliqueLinking, gradient_case(options)), "linked by taps").beats_chance());
}

TEST(ObliqueLinking, OrthogonalKeysAreLinkedBySingularVectors) {
  const auto findings = run_checked(kObliqueLinking, synthetic_case(kRows, {.protection = "rotated"}));
  EXPECT_GT(finding_of(findings, "R of successive steps, by singular vectors").score, 0.99);
  EXPECT_GT(finding_of(findings, "M of successive steps, by singular vectors").score, 0.99);
}

TEST(ObliqueLinking, MissingAndTinyOperandsAreHandled) {
  for (const Finding& f : run_checked(kObliqueLinking, LayerCase{})) EXPECT_FALSE(f.applicable);
  for (const testing::SyntheticOptions& o :
       {testing::SyntheticOptions{.in = 1, .out = 1},
        {.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .steps = 2},
        {.images = 2, .tile = 1, .in = 1, .out = 1, .steps = 3},
        {.images = 2, .in = 3, .out = 2, .steps = 2, .zeros = 1}})
    for (const char* protection : {"rotated", "oblique"})
      run_checked(kObliqueLinking, synthetic_case(o, {.protection = protection}));
}

}  // namespace attack_27_oblique_linking_test
}  // namespace tempo::audit
