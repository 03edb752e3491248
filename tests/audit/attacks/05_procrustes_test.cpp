#include <gtest/gtest.h>

#include <cmath>

#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_05_procrustes_test {

constexpr testing::SyntheticOptions kSmall{
    .images = 2, .tiles_y = 1, .tiles_x = 1, .tile = 2, .in = 16, .out = 24, .steps = 4, .drift = 0.02};

std::vector<Finding> attack(const LayerCase& layer) {
  Random random(1);
  return kProcrustes.run(layer, random);
}

LayerCase victim(testing::SyntheticOptions options, const char* protection = "rotated") {
  LayerCase layer = testing::synthetic_case(options, {.protection = protection});
  layer.knowledge.weight = layer.truth.front().w;
  return layer;
}

TEST(Procrustes, SolvesRotatedKeysFromThePublicStart) {
  const LayerCase layer = victim(kSmall);
  const auto findings = attack(layer);
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_GT(findings[0].score, 0.999);
  EXPECT_LT(findings[0].chance, 0.7);  // a fit to the start resembles it, whatever W~ is
  EXPECT_TRUE(findings[0].beats_chance());
  EXPECT_GT(absolute_cosine(findings[0].recovered_weight, layer.truth.back().w), 0.999);
  EXPECT_GT(findings[1].score, 0.9);
  EXPECT_TRUE(findings[1].beats_chance());
}

TEST(Procrustes, KeysKeptOverStepsRevealTheWholeChangeOfTheWeight) {
  testing::SyntheticOptions options = kSmall;
  options.steps_per_key = 4;
  const LayerCase layer = victim(options);
  EXPECT_GT(attack(layer)[1].score, 0.999);
}

TEST(Procrustes, StepsWithoutTruthAreScoredFromTheKeys) {
  LayerCase layer = victim(kSmall);
  const auto whole = attack(layer);
  for (size_t t = 1; t < layer.truth.size(); ++t) layer.truth[t].w = {};
  EXPECT_NEAR(attack(layer)[0].score, whole[0].score, 1e-4);
  EXPECT_NEAR(attack(layer)[1].score, whole[1].score, 1e-3);
}

TEST(Procrustes, WithOneTapTheStartIsFoundButNotTheChange) {
  testing::SyntheticOptions options = kSmall;
  options.kernel = options.tile = 1;
  options.steps_per_key = 4;
  const auto findings = attack(victim(options));
  EXPECT_GT(findings[0].chance, 0.8);
  EXPECT_LT(findings[1].score, 0.4);
}

TEST(Procrustes, AnUnrelatedReferenceScoresAtChance) {
  LayerCase layer = victim(kSmall);
  Random random(5);
  layer.knowledge.weight = from_channels(random_gaussian(24 * 9, 16, random), 24, 3, 3);
  const auto findings = attack(layer);
  ASSERT_EQ(findings.size(), 2U);
  for (const Finding& f : findings) {
    EXPECT_TRUE(f.applicable);
    EXPECT_LT(f.score, 0.1);
    EXPECT_FALSE(f.beats_chance());
  }
}

TEST(Procrustes, ScalesOnBothSidesDefeatTheAttack) {
  const auto findings = attack(victim(kSmall, "permuted"));
  EXPECT_LT(findings[0].score, 0.9);
  EXPECT_LT(findings[1].score, 0.3);
}

TEST(Procrustes, LeastSquaresSolvesAKeyOnOneSide) {
  for (const bool is_inner : {true, false}) {
    LayerCase layer = victim(kSmall);
    Random random(6);
    const int64_t size = is_inner ? 16 : 24;
    const Matrix key = random_gaussian(size, size, random);
    for (size_t t = 0; t < layer.view.size(); ++t)
      layer.view[t].w = is_inner ? transform({}, layer.truth[t].w, key) : transform(key, layer.truth[t].w, {});
    const auto findings = attack(layer);
    EXPECT_GT(findings[0].score, 0.999);
    EXPECT_GT(findings[1].score, 0.95);
    EXPECT_TRUE(findings[1].beats_chance());
  }
}

TEST(Procrustes, MissingZeroAndTinyOperandsDoNotCrashTheAttack) {
  LayerCase layer = victim(kSmall);
  layer.knowledge.weight = {};
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  for (const Finding& f : attack(LayerCase{})) EXPECT_FALSE(f.applicable);
  layer = victim(kSmall);
  for (float& v : layer.view.front().w.values) v = 0;
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  testing::SyntheticOptions tiny = kSmall;
  tiny.in = tiny.out = tiny.kernel = tiny.tile = 1;
  for (const Finding& f : attack(victim(tiny))) EXPECT_TRUE(std::isfinite(f.score) && std::isfinite(f.noise));
  tiny.steps = 1;
  EXPECT_FALSE(attack(victim(tiny))[1].applicable);
}

}  // namespace attack_05_procrustes_test
}  // namespace tempo::audit
