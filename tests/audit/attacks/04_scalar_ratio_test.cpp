#include <gtest/gtest.h>

#include <cmath>

#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_04_scalar_ratio_test {

std::vector<Finding> attack(LayerCase layer) {
  Random random(1);
  return kScalarRatio.run(layer, random);
}

LayerCase victim(const char* protection, Coefficients coefficients = Coefficients::kSignedReal) {
  LayerCase layer =
      testing::synthetic_case({}, {.protection = protection, .coefficients = coefficients, .conv_tile = 4});
  layer.knowledge.weight = layer.truth.front().w;
  return layer;
}

TEST(ScalarRatio, RecoversAWeightScaledByOneNumber) {
  LayerCase layer = victim("none");
  for (float& v : layer.view.front().w.values) v *= -2.7F;
  for (float& v : layer.knowledge.weight.values) v *= 1.002F;
  const Finding weight = attack(layer)[0];
  EXPECT_EQ(weight.score, 1);
  EXPECT_LT(weight.chance, 0.05);
  EXPECT_TRUE(weight.beats_chance());
  EXPECT_GT(absolute_cosine(weight.recovered_weight, layer.truth.front().w), 0.999);
  EXPECT_NEAR(weight.recovered_weight.values[0] / layer.truth.front().w.values[0], 1, 0.01);
}

TEST(ScalarRatio, FailsAgainstScalesByChannelAndRotations) {
  for (const LayerCase& layer :
       {victim("permuted"), victim("rotated"), victim("permuted", Coefficients::kPositiveInteger)}) {
    const Finding weight = attack(layer)[0];
    EXPECT_TRUE(weight.applicable);
    EXPECT_LT(weight.score, 0.03);
    EXPECT_FALSE(weight.beats_chance());
  }
}

TEST(ScalarRatio, OrthogonalKeysRevealNorms) {
  const Finding rotated = attack(victim("rotated"))[1];
  EXPECT_EQ(rotated.score, 1);
  EXPECT_LT(rotated.chance, 0.05);
  EXPECT_TRUE(rotated.beats_chance());
}

TEST(ScalarRatio, IntegerScalesHideNorms) {
  const Finding permuted = attack(victim("permuted", Coefficients::kPositiveInteger))[1];
  EXPECT_TRUE(permuted.applicable);
  EXPECT_LE(permuted.score, permuted.chance + 3 * permuted.noise);
}

TEST(ScalarRatio, MissingZeroAndTinyOperandsDoNotCrashTheAttack) {
  LayerCase layer = victim("rotated");
  layer.knowledge.weight = {};
  EXPECT_FALSE(attack(layer)[0].applicable);
  for (float& v : layer.view.front().w.values) v = 0;
  layer.knowledge.weight = layer.truth.front().w;
  EXPECT_FALSE(attack(layer)[0].applicable);
  for (const Finding& f : attack(LayerCase{})) EXPECT_FALSE(f.applicable);

  LayerCase later = testing::synthetic_case({.steps = 2}, {});
  later.view[1].y = later.view[1].dy = later.view[1].dx = later.view[1].dw = {};
  later.truth[1].x = later.truth[1].w = {};
  EXPECT_EQ(attack(later)[1].score, 1);
  const LayerCase tiny =
      testing::synthetic_case({.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .in = 1, .out = 1}, {});
  for (const Finding& f : attack(tiny)) EXPECT_TRUE(std::isfinite(f.score) && std::isfinite(f.noise));
}

}  // namespace attack_04_scalar_ratio_test
}  // namespace tempo::audit
