#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_07_zero_pattern_test {

using testing::finding_of;

std::vector<Finding> attack(const LayerCase& layer) { return testing::run_checked(kZeroPattern, layer); }

LayerCase victim(const char* protection, Coefficients coefficients, uint64_t seed) {
  const testing::SyntheticOptions options{
      .images = 64, .tile = 2, .in = 16, .out = 4, .steps = 2, .padded = true, .seed = seed};
  LayerCase layer = testing::synthetic_case(
      options, BlindingOptions{.protection = protection, .coefficients = coefficients, .reuse = Reuse::kFull});
  return layer;
}

/// Makes channel c zero more often the larger c is, in both steps, so that frequencies tell channels apart.
LayerCase uneven_victim(const char* protection, uint64_t seed) {
  LayerCase layer = victim("none", Coefficients::kSignedReal, seed);
  const LayerCase keys = victim(protection, Coefficients::kSignedReal, seed);
  Random random(seed);
  for (size_t s = 0; s < layer.view.size(); ++s) {
    Operand& x = layer.truth[s].x;
    for (size_t i = 0; i < x.values.size(); ++i)
      if (random() % 17 < i % static_cast<size_t>(x.channels)) x.values[i] = 0;
    layer.truth[s].inner = keys.truth[s].inner;
    layer.view[s].x = transform({}, x, keys.truth[s].inner);
  }
  return layer;
}

TEST(ZeroPattern, NamesRowsAndChannelsThatAreOnlyMovedAndScaled) {
  for (const Coefficients c : {Coefficients::kPositiveInteger, Coefficients::kSignedReal}) {
    LayerCase layer = victim("permuted", c, 3);
    layer.knowledge.activations = layer.truth.front().x;
    const auto findings = attack(layer);
    for (const char* target : {"order of channels, from the true", "rows, from the true",
                               "order of channels, from zeros of", "rows, from zeros of", "plain sight"})
      EXPECT_GE(finding_of(findings, target).score, 0.99) << target;
  }
}

TEST(ZeroPattern, FrequenciesOfZerosInAnotherModelGiveTheOrderOfChannels) {
  LayerCase layer = uneven_victim("permuted", 4);
  layer.knowledge.activations = layer.truth.front().x;
  for (size_t i = 0; i < layer.knowledge.activations.values.size(); i += 17)
    layer.knowledge.activations.values[i] = layer.knowledge.activations.values[i] == 0 ? 1.0F : 0.0F;
  const auto findings = attack(layer);
  EXPECT_GE(finding_of(findings, "order of channels, from zeros of").score, 0.9);
}

TEST(ZeroPattern, LinksTwoStepsUnlessRowsAreRotated) {
  EXPECT_GE(finding_of(attack(uneven_victim("permuted", 5)), "two steps").score, 0.9);
  for (const uint64_t seed : {5, 6, 7}) {
    const Finding f = finding_of(attack(uneven_victim("rotated", seed)), "two steps");
    EXPECT_TRUE(f.applicable);
    EXPECT_LE(f.score, f.chance + 3 * f.noise) << seed;
  }
}

TEST(ZeroPattern, IsAtChanceWhereAllRowsAreRotated) {
  for (const uint64_t seed : {1, 2, 3}) {
    LayerCase layer = victim("rotated", Coefficients::kSignedReal, seed);
    layer.knowledge.activations = layer.truth.front().x;
    for (const Finding& f : attack(layer)) {
      EXPECT_TRUE(f.applicable) << f.target;
      EXPECT_FALSE(f.beats_chance()) << f.target << " seed " << seed;
    }
  }
}

TEST(ZeroPattern, MissingAndOddOperandsDoNotCrashTheAttack) {
  LayerCase layer;
  layer.view.resize(1);
  layer.truth.resize(1);
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  layer.view[0].x = layer.truth[0].x = Operand(5, 1, 1, 3);
  layer.truth[0].inner = Matrix::Identity(3, 3);
  attack(layer);
  const BlindingOptions permuted{.protection = "permuted"};
  for (const int64_t in : {1, 2})
    attack(testing::synthetic_case(
        {.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .in = in, .out = 1}, permuted));
  LayerCase later = victim("permuted", Coefficients::kSignedReal, 8);
  later.view[1].x = Operand(3, later.view[1].x.height, later.view[1].x.width, later.view[1].x.channels);
  later.truth[1].x = Operand();
  attack(later);
  later.view[1].x = Operand();
  EXPECT_FALSE(finding_of(attack(later), "two steps").applicable);
}

}  // namespace attack_07_zero_pattern_test
}  // namespace tempo::audit
