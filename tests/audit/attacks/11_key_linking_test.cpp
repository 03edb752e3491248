#include <gtest/gtest.h>

#include <cmath>

#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_11_key_linking_test {

constexpr testing::SyntheticOptions kSmall{
    .images = 2, .tiles_y = 1, .tiles_x = 1, .tile = 2, .in = 32, .out = 24, .steps = 3};

std::vector<Finding> attack(const LayerCase& layer) {
  Random random(1);
  return kKeyLinking.run(layer, random);
}

LayerCase victim(const testing::SyntheticOptions& options, const char* protection,
                 Coefficients coefficients = Coefficients::kSignedReal) {
  return testing::synthetic_case(options, {.protection = protection, .coefficients = coefficients});
}

TEST(KeyLinking, RotationsOfOneWeightAreLinked) {
  const auto findings = attack(victim(kSmall, "rotated"));
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_GT(findings[0].score, 0.999);
  EXPECT_LT(findings[0].chance, 0.2);
  EXPECT_TRUE(findings[0].beats_chance());
  EXPECT_FALSE(findings[1].applicable);  // no order
}

TEST(KeyLinking, PermutationsAreLinkedByOrder) {
  for (const auto coefficients : {Coefficients::kSignedReal, Coefficients::kPositiveInteger})
    for (const int64_t kernel : {1, 3}) {
      testing::SyntheticOptions options = kSmall;
      options.kernel = kernel;
      options.tile = kernel == 1 ? 1 : 2;
      const auto findings = attack(victim(options, "permuted", coefficients));
      EXPECT_EQ(findings[1].score, 1);
      EXPECT_DOUBLE_EQ(findings[1].chance, 1.0 / 32);
    }
}

TEST(KeyLinking, RotationsOfAKernelOfOneTapAreNotLinked) {
  testing::SyntheticOptions options = kSmall;
  options.kernel = options.tile = 1;
  EXPECT_LT(attack(victim(options, "rotated"))[0].score, 0.6);
}

TEST(KeyLinking, UnrelatedWeightsAreNotLinked) {
  testing::SyntheticOptions options = kSmall;
  options.drift = 100;
  for (const Finding& f : {attack(victim(options, "rotated"))[0], attack(victim(options, "permuted"))[1]}) {
    EXPECT_TRUE(f.applicable);
    EXPECT_FALSE(f.beats_chance());
  }
}

TEST(KeyLinking, TheAttackIsNotApplicableIfKeysNeverChange) {
  testing::SyntheticOptions options = kSmall;
  options.steps_per_key = 3;
  for (const Finding& f : attack(victim(options, "rotated"))) EXPECT_FALSE(f.applicable);
  for (const Finding& f : attack(victim(kSmall, "none"))) EXPECT_FALSE(f.applicable);
}

TEST(KeyLinking, MissingTinyAndZeroOperandsGiveFiniteScores) {
  for (const Finding& f : attack(LayerCase{})) EXPECT_FALSE(f.applicable);
  testing::SyntheticOptions tiny = kSmall;
  tiny.in = tiny.out = tiny.kernel = tiny.tile = 1;
  for (const auto protection : {"rotated", "permuted"})
    for (const Finding& f : attack(victim(tiny, protection)))
      EXPECT_TRUE(std::isfinite(f.score) && std::isfinite(f.noise));
  LayerCase zero = victim(kSmall, "permuted");
  for (StepView& view : zero.view)
    for (float& v : view.w.values) v = 0;
  for (const Finding& f : attack(zero)) EXPECT_TRUE(std::isfinite(f.score));
}

}  // namespace attack_11_key_linking_test
}  // namespace tempo::audit
