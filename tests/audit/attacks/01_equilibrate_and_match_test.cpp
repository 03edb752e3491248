#include <gtest/gtest.h>

#include <cmath>

#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_01_equilibrate_and_match_test {

BlindingOptions blinding(const char* protection, Coefficients coefficients = Coefficients::kSignedReal) {
  BlindingOptions options;
  options.protection = protection;
  options.coefficients = coefficients;
  return options;
}

std::vector<Finding> attack(const LayerCase& layer) {
  Random random(7);
  std::vector<Finding> findings = kEquilibrateAndMatch.run(layer, random);
  EXPECT_FALSE(findings.empty());
  for (const Finding& f : findings) {
    EXPECT_TRUE(std::isfinite(f.score) && std::isfinite(f.chance) && std::isfinite(f.noise)) << f.target;
    EXPECT_GE(f.score, 0) << f.target;
    EXPECT_LE(f.score, 1 + 1e-9) << f.target;
  }
  return findings;
}

testing::SyntheticOptions layer_of(int64_t in, int64_t out) {
  testing::SyntheticOptions options;
  options.images = 4;
  options.in = in;
  options.out = out;
  return options;
}

TEST(EquilibrateAndMatch, FindsAPublicStartBehindPermutedKeys) {
  for (const auto coefficients : {Coefficients::kPositiveInteger, Coefficients::kSignedReal}) {
    LayerCase layer = testing::synthetic_case(layer_of(24, 32), blinding("permuted", coefficients));
    layer.knowledge.weight = layer.truth.front().w;
    const auto findings = attack(layer);
    ASSERT_EQ(findings.size(), 5U);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(findings[i].score, 1) << findings[i].target;
      EXPECT_TRUE(findings[i].beats_chance());
    }
    EXPECT_GT(findings[2].score, 0.9999);
    EXPECT_LT(findings[2].chance, 0.5);
    EXPECT_TRUE(findings[2].beats_chance());
    EXPECT_TRUE(findings[2].recovered_weight.same_shape(layer.truth.front().w));
    EXPECT_FALSE(findings[3].applicable);
    EXPECT_FALSE(findings[4].applicable);
  }
}

TEST(EquilibrateAndMatch, FollowsAWeightThroughNewKeys) {
  auto options = layer_of(16, 24);
  options.steps = 3;
  options.drift = 0.05;
  LayerCase layer = testing::synthetic_case(options, blinding("permuted"));
  layer.knowledge.weight = layer.truth.front().w;
  const auto findings = attack(layer);
  for (size_t i : {0U, 1U, 3U, 4U}) EXPECT_GT(findings[i].score, 0.95) << findings[i].target;
  // Better than the start, which the attacker knew anyway.
  EXPECT_GT(findings[2].score, 0.998);
}

TEST(EquilibrateAndMatch, FailsAgainstRotatedKeys) {
  auto options = layer_of(24, 32);
  options.steps = 2;
  LayerCase layer = testing::synthetic_case(options, blinding("rotated"));
  layer.knowledge.weight = layer.truth.front().w;
  for (const Finding& f : attack(layer)) {
    EXPECT_TRUE(f.applicable);
    EXPECT_LE(f.score, f.chance + 3 * f.noise) << f.target;
  }
}

TEST(EquilibrateAndMatch, FailsWithAnUnrelatedReference) {
  LayerCase layer = testing::synthetic_case(layer_of(24, 32), blinding("permuted"));
  auto other = layer_of(24, 32);
  other.seed = 99;
  layer.knowledge.weight = testing::synthetic_case(other, blinding("none")).truth.front().w;
  const auto findings = attack(layer);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_LE(findings[i].score, findings[i].chance + 3 * findings[i].noise) << findings[i].target;
}

TEST(EquilibrateAndMatch, SeesEverythingWithoutKeys) {
  LayerCase layer = testing::synthetic_case(layer_of(8, 12), blinding("none"));
  layer.knowledge.weight = layer.truth.front().w;
  const auto findings = attack(layer);
  for (size_t i = 0; i < 3; ++i) EXPECT_GT(findings[i].score, 0.9999) << findings[i].target;
}

TEST(EquilibrateAndMatch, TheAttackIsNotApplicableWithoutAReferenceWeight) {
  for (const Finding& f : attack(testing::synthetic_case(layer_of(8, 12), blinding("permuted"))))
    EXPECT_FALSE(f.applicable);
}

TEST(EquilibrateAndMatch, TinyAndOtherwiseOddLayersDoNotCrashTheAttack) {
  auto single = layer_of(1, 1);
  single.kernel = single.tile = 1;
  LayerCase layer = testing::synthetic_case(single, blinding("permuted"));
  layer.knowledge.weight = layer.truth.front().w;
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.beats_chance());

  auto two = layer_of(4, 5);
  two.steps = 2;
  layer = testing::synthetic_case(two, blinding("permuted"));
  layer.knowledge.weight = layer.truth.front().w;
  layer.truth.back().w = {};  // as in a long recording
  attack(layer);
  for (Operand* w : {&layer.view.back().w, &layer.knowledge.weight, &layer.truth.front().w})
    std::fill(w->values.begin(), w->values.end(), 0.0F);
  attack(layer);
  layer.view.front().w = layer.view.back().w = {};
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
}

}  // namespace attack_01_equilibrate_and_match_test
}  // namespace tempo::audit
