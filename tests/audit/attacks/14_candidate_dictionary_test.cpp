// Members of a batch are told from other images where rows are not mixed, and not where they are.
#include <gtest/gtest.h>

#include <cmath>

#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_14_candidate_dictionary_test {

using testing::synthetic_case;
using testing::SyntheticOptions;

constexpr size_t kOwnModel = 0, kUpperBound = 1;

const BlindingOptions kPermuted{.protection = "permuted", .weights = WeightPlacement::kReturned};

/// Activations as another model would have them: some zeros gone, some come, and other values.
Operand perturbed(Operand x, double share, Random& random) {
  std::uniform_real_distribution<double> uniform;
  for (float& v : x.values) {
    if (uniform(random) < share) v = v == 0 ? 1.0F : 0.0F;
    v *= static_cast<float>(0.7 + 0.6 * uniform(random));
  }
  return x;
}

void expect_at_chance(const Finding& f) {
  EXPECT_TRUE(f.applicable);
  EXPECT_LT(std::abs(f.score - f.chance), 3 * f.noise + 0.01) << f.target;
  EXPECT_FALSE(f.beats_chance());
}

TEST(CandidateDictionary, ZerosRevealMembersUnderPermutedKeys) {
  for (const Coefficients coefficients : {Coefficients::kPositiveInteger, Coefficients::kSignedReal}) {
    BlindingOptions blinding = kPermuted;
    blinding.coefficients = coefficients;
    LayerCase layer = synthetic_case({.images = 24, .in = 12}, blinding);
    Random random(1);
    layer.knowledge.activations = perturbed(layer.truth.front().x, 0.05, random);
    const auto findings = kCandidateDictionary.run(layer, random);
    EXPECT_GT(findings[kOwnModel].score, 0.95);
    EXPECT_GT(findings[kUpperBound].score, 0.999);
    for (const Finding& f : findings) {
      EXPECT_TRUE(f.beats_chance());
      EXPECT_LT(f.chance, 0.7);
    }
  }
}

TEST(CandidateDictionary, ActivationsOfAnUnrelatedModelScoreAtChance) {
  LayerCase layer = synthetic_case({.images = 24, .in = 12}, kPermuted);
  layer.knowledge.activations = synthetic_case({.images = 24, .in = 12, .seed = 2}, kPermuted).truth.front().x;
  Random random(2);
  expect_at_chance(kCandidateDictionary.run(layer, random)[kOwnModel]);
}

TEST(CandidateDictionary, EnergiesRevealMembersWhereOnlyChannelsAreRotated) {
  LayerCase layer = synthetic_case({.images = 24, .in = 16}, {});
  StepTruth& truth = layer.truth.front();
  truth.rows_mixed = 1;
  layer.view.front().x = transform({}, truth.x, truth.inner);
  Random random(3);
  EXPECT_GT(kCandidateDictionary.run(layer, random)[kUpperBound].score, 0.95);
}

TEST(CandidateDictionary, MixedRowsHideMembers) {
  for (const uint64_t seed : {1, 2, 3}) {
    LayerCase layer = synthetic_case({.images = 64, .padded = true, .seed = seed}, {});
    Random random(4);
    layer.knowledge.activations = layer.truth.front().x;
    const auto findings = kCandidateDictionary.run(layer, random);
    for (const size_t i : {kOwnModel, kUpperBound}) expect_at_chance(findings.at(i));
  }
}

TEST(CandidateDictionary, TheAttackIsNotApplicableWithoutActivationsOrOperands) {
  LayerCase layer = synthetic_case({}, {});
  Random random(5);
  EXPECT_FALSE(kCandidateDictionary.run(layer, random)[kOwnModel].applicable);
  layer.view.front().x = Operand();
  for (const Finding& f : kCandidateDictionary.run(layer, random)) EXPECT_FALSE(f.applicable);
}

TEST(CandidateDictionary, TinyAndZeroOperandsDoNotCrashTheAttack) {
  Random random(6);
  for (const SyntheticOptions& o : {SyntheticOptions{.in = 1, .out = 1},
                                    {.images = 1, .tiles_y = 1, .tiles_x = 1},
                                    {.images = 8, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .in = 6},
                                    {.images = 2, .zeros = 1}})
    for (const BlindingOptions& blinding : {BlindingOptions{}, kPermuted}) {
      LayerCase layer = synthetic_case(o, blinding);
      layer.knowledge.activations = layer.truth.front().x;
      for (const Finding& f : kCandidateDictionary.run(layer, random))
        for (const double value : {f.score, f.chance, f.noise}) {
          EXPECT_GE(value, 0);
          EXPECT_LE(value, 1);
        }
      layer.tiles_x = 3;  // does not divide the rows
      kCandidateDictionary.run(layer, random);
    }
}

}  // namespace attack_14_candidate_dictionary_test
}  // namespace tempo::audit
