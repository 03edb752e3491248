#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_03_kernel_cosine_test {

LayerCase case_of(testing::SyntheticOptions options, const char* protection,
                  Coefficients coefficients = Coefficients::kSignedReal) {
  BlindingOptions blinding;
  blinding.protection = protection;
  blinding.coefficients = coefficients;
  options.images = 4;
  LayerCase layer = testing::synthetic_case(options, blinding);
  layer.knowledge.weight = layer.truth.front().w;
  return layer;
}

testing::SyntheticOptions layer_of(int64_t in, int64_t out, int64_t kernel = 3) {
  testing::SyntheticOptions options;
  options.in = in;
  options.out = out;
  options.kernel = kernel;
  return options;
}

std::vector<Finding> attack(const LayerCase& layer) {
  Random random(7);
  std::vector<Finding> findings = kKernelCosine.run(layer, random);
  EXPECT_EQ(findings.size(), 4U);
  for (const Finding& f : findings) {
    EXPECT_TRUE(std::isfinite(f.score) && std::isfinite(f.chance) && std::isfinite(f.noise)) << f.target;
    EXPECT_GE(f.score, 0) << f.target;
    EXPECT_LE(f.score, 1 + 1e-9) << f.target;
  }
  return findings;
}

TEST(KernelCosine, FindsAPublicStartBehindPermutedKeys) {
  for (const auto coefficients : {Coefficients::kPositiveInteger, Coefficients::kSignedReal}) {
    const auto findings = attack(case_of(layer_of(24, 32), "permuted", coefficients));
    EXPECT_EQ(findings[0].score, 1);
    EXPECT_EQ(findings[1].score, 1);
    EXPECT_GT(findings[2].score, 0.9999);
    EXPECT_FALSE(findings[2].recovered_weight.empty());
    EXPECT_EQ(findings[3].score, 1);
    for (const Finding& f : findings) EXPECT_TRUE(f.beats_chance()) << f.target;
  }
}

TEST(KernelCosine, FindsAPublicStartAfterSomeTraining) {
  auto options = layer_of(24, 32);
  options.steps = 2;
  options.drift = 0.2;
  const auto findings = attack(case_of(options, "permuted"));
  EXPECT_GT(findings[0].score, 0.95);
  EXPECT_GT(findings[1].score, 0.95);
  EXPECT_GT(findings[2].score, 0.998);
}

TEST(KernelCosine, SeesDirectionsWithoutAnyReference) {
  LayerCase layer = case_of(layer_of(8, 12), "permuted");
  layer.knowledge.weight = {};
  const auto findings = attack(layer);
  for (size_t i = 0; i < 3; ++i) EXPECT_FALSE(findings[i].applicable);
  EXPECT_EQ(findings[3].score, 1);
  EXPECT_LT(findings[3].chance, 0.01);
}

TEST(KernelCosine, FailsAgainstRotatedKeys) {
  for (const Finding& f : attack(case_of(layer_of(24, 32), "rotated"))) {
    EXPECT_TRUE(f.applicable);
    EXPECT_LE(f.score, f.chance + 3 * f.noise) << f.target;
  }
}

TEST(KernelCosine, FailsWithAnUnrelatedReference) {
  LayerCase layer = case_of(layer_of(24, 32), "permuted");
  auto other = layer_of(24, 32);
  other.seed = 99;
  layer.knowledge.weight = case_of(other, "none").truth.front().w;
  const auto findings = attack(layer);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_LE(findings[i].score, findings[i].chance + 3 * findings[i].noise) << findings[i].target;
}

TEST(KernelCosine, TheAttackIsNotApplicableToKernelsOfOneTap) {
  for (const Finding& f : attack(case_of(layer_of(8, 12, 1), "permuted"))) EXPECT_FALSE(f.applicable);
}

TEST(KernelCosine, TinyZeroAndEmptyOperandsDoNotCrashTheAttack) {
  LayerCase layer = case_of(layer_of(1, 1), "permuted");
  attack(layer);
  layer = case_of(layer_of(3, 4), "permuted");
  for (Operand* w : {&layer.view.front().w, &layer.knowledge.weight, &layer.truth.front().w}) {
    std::fill(w->values.begin(), w->values.end(), 0.0F);
    attack(layer);
  }
  layer.view.front().w = {};
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
}

}  // namespace attack_03_kernel_cosine_test
}  // namespace tempo::audit
