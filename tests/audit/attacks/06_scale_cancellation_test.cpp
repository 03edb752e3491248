#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_06_scale_cancellation_test {

using testing::finding_of;

std::vector<Finding> attack(const LayerCase& layer) { return testing::run_checked(kScaleCancellation, layer); }

LayerCase victim(const char* protection, Coefficients coefficients, Reuse reuse) {
  const testing::SyntheticOptions options{.in = 16, .out = 24, .zeros = 0.5, .seed = 5};
  return testing::synthetic_case(
      options, BlindingOptions{.protection = protection, .coefficients = coefficients, .reuse = reuse});
}

TEST(ScaleCancellation, FindsAllProductsWhereScalesAreInvertedBackward) {
  for (const Coefficients c : {Coefficients::kPositiveInteger, Coefficients::kSignedReal}) {
    const auto findings = attack(victim("permuted", c, Reuse::kFull));
    ASSERT_EQ(findings.size(), 4U);
    for (const Finding& f : findings) {
      EXPECT_GE(f.score, 0.97) << f.target;
      EXPECT_LT(f.chance + 3 * f.noise, 0.8) << f.target;
      EXPECT_TRUE(f.beats_chance()) << f.target;
    }
  }
}

TEST(ScaleCancellation, FindsNothingUnderFreshKeysOfTheSecondProduct) {
  for (const Reuse reuse : {Reuse::kFresh, Reuse::kNone})
    for (const Finding& f : attack(victim("permuted", Coefficients::kSignedReal, reuse))) {
      EXPECT_TRUE(f.applicable) << f.target;
      EXPECT_FALSE(f.beats_chance()) << f.target;
    }
}

TEST(ScaleCancellation, RotationsHideElementwiseProductsButNotInnerProducts) {
  for (const uint64_t seed : {1, 2, 3}) {
    const testing::SyntheticOptions options{.images = 32, .in = 16, .out = 24, .seed = seed};
    const auto findings =
        attack(testing::synthetic_case(options, BlindingOptions{.protection = "rotated", .reuse = Reuse::kFull}));
    for (const char* target : {"W o dW", "X o dX", "Y o dY"})
      EXPECT_FALSE(finding_of(findings, target).beats_chance()) << target << " seed " << seed;
    EXPECT_EQ(finding_of(findings, "inner products").score, 1);
  }
}

TEST(ScaleCancellation, MissingTinyAndZeroOperandsDoNotCrashTheAttack) {
  LayerCase layer;
  layer.view.resize(1);
  layer.truth.resize(1);
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  for (Operand* o : {&layer.view[0].w, &layer.view[0].dw, &layer.truth[0].w, &layer.truth[0].dw})
    *o = Operand(1, 1, 1, 1);
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  for (Operand* o : {&layer.view[0].x, &layer.view[0].dx, &layer.truth[0].x, &layer.truth[0].dx})
    *o = Operand(30, 2, 2, 7);  // all zero
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  for (const int64_t in : {1, 2})
    attack(
        testing::synthetic_case({.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .in = in, .out = 1},
                                BlindingOptions{.protection = "permuted"}));
}

}  // namespace attack_06_scale_cancellation_test
}  // namespace tempo::audit
