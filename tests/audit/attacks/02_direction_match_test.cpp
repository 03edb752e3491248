#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_02_direction_match_test {

testing::SyntheticOptions layer_of(int64_t in, int64_t out) {
  testing::SyntheticOptions options;
  options.images = 4;
  options.in = in;
  options.out = out;
  return options;
}

LayerCase case_of(int64_t in, int64_t out, const char* protection) {
  BlindingOptions blinding;
  blinding.protection = protection;
  LayerCase layer = testing::synthetic_case(layer_of(in, out), blinding);
  layer.knowledge.weight = layer.truth.front().w;
  return layer;
}

std::vector<Finding> attack(const LayerCase& layer) {
  Random random(7);
  std::vector<Finding> findings = kDirectionMatch.run(layer, random);
  EXPECT_EQ(findings.size(), 2U);
  for (const Finding& f : findings) {
    EXPECT_TRUE(std::isfinite(f.score) && std::isfinite(f.chance) && std::isfinite(f.noise)) << f.target;
  }
  return findings;
}

/// The permuted scheme's right key, but another key, or none, on the input channels.
LayerCase one_sided(const Matrix& inner) {
  LayerCase layer = case_of(24, 32, "permuted");
  StepTruth& truth = layer.truth.front();
  truth.inner = inner.size() != 0 ? inner : Matrix(Matrix::Identity(24, 24));
  layer.view.front().w = transform(truth.right.transpose(), truth.w, truth.inner);
  return layer;
}

TEST(DirectionMatch, UndoesAKeyOnOutputChannelsAlone) {
  for (const Finding& f : attack(one_sided({}))) {
    EXPECT_EQ(f.score, 1) << f.target;
    EXPECT_TRUE(f.beats_chance());
  }
}

TEST(DirectionMatch, SortingUndoesAnOrderOfInputsToo) {
  const auto findings = attack(one_sided(Matrix::Identity(24, 24).rowwise().reverse()));
  EXPECT_LE(findings[0].score, findings[0].chance + 3 * findings[0].noise);
  EXPECT_EQ(findings[1].score, 1);
}

TEST(DirectionMatch, UndoesTheKeyWithANoisyReference) {
  LayerCase layer = one_sided({});
  Random random(5);
  std::normal_distribution<float> normal;
  for (float& v : layer.knowledge.weight.values) v += 0.3F * normal(random);
  EXPECT_EQ(attack(layer)[0].score, 1);
}

TEST(DirectionMatch, FailsAgainstKeysOnBothSides) {
  for (const char* protection : {"permuted", "rotated"})
    for (const Finding& f : attack(case_of(24, 32, protection))) {
      EXPECT_TRUE(f.applicable);
      EXPECT_LE(f.score, f.chance + 3 * f.noise) << f.target;
    }
}

TEST(DirectionMatch, TinyZeroAndEmptyOperandsDoNotCrashTheAttack) {
  LayerCase layer = case_of(1, 1, "permuted");
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.beats_chance());
  layer = case_of(3, 4, "permuted");
  std::fill(layer.view.front().w.values.begin(), layer.view.front().w.values.end(), 0.0F);
  attack(layer);
  layer.knowledge.weight = {};
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  layer.view.front().w = {};
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
}

}  // namespace attack_02_direction_match_test
}  // namespace tempo::audit
