#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_08_integer_scales_test {

LayerCase case_of(bool integers, const char* protection, Coefficients coefficients, Reuse reuse = Reuse::kNone,
                  int64_t in = 24, int64_t out = 32) {
  BlindingOptions blinding;
  blinding.protection = protection;
  blinding.coefficients = coefficients;
  blinding.reuse = reuse;
  testing::SyntheticOptions options;
  options.images = 8;
  options.in = in;
  options.out = out;
  options.tile = 2;
  options.integers = integers;
  return testing::synthetic_case(options, blinding);
}

std::vector<Finding> attack(const LayerCase& layer) {
  Random random(7);
  std::vector<Finding> findings = kIntegerScales.run(layer, random);
  EXPECT_EQ(findings.size(), 3U);
  for (const Finding& f : findings) {
    EXPECT_TRUE(std::isfinite(f.score) && std::isfinite(f.chance) && std::isfinite(f.noise)) << f.target;
    EXPECT_GE(f.score, 0) << f.target;
    EXPECT_LE(f.score, 1) << f.target;
  }
  return findings;
}

TEST(IntegerScales, IntegerScalesAreFoundInWholeNumbers) {
  const auto findings = attack(case_of(true, "permuted", Coefficients::kPositiveInteger));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_GT(findings[i].score, 0.95) << findings[i].target;
    EXPECT_LT(findings[i].chance, 0.15) << findings[i].target;
    EXPECT_TRUE(findings[i].beats_chance());
  }
}

TEST(IntegerScales, IntegerScalesAreNotFoundInRealActivations) {
  const auto findings = attack(case_of(false, "permuted", Coefficients::kPositiveInteger));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(findings[i].applicable);
    EXPECT_LE(findings[i].score, findings[i].chance + 3 * findings[i].noise) << findings[i].target;
  }
}

TEST(IntegerScales, IntegerScalesAreFoundFromOneWeightSentTwice) {
  // Two coefficients have no common factor in six of ten cases; only then is the numerator the scale.
  for (const bool integers : {true, false}) {
    const Finding f = attack(case_of(integers, "permuted", Coefficients::kPositiveInteger))[2];
    EXPECT_GT(f.score, 0.45);
    EXPECT_LT(f.chance, 0.2);
    EXPECT_TRUE(f.beats_chance());
  }
  EXPECT_FALSE(attack(case_of(false, "permuted", Coefficients::kPositiveInteger, Reuse::kFull))[2].applicable);
}

TEST(IntegerScales, TheAttackFailsAgainstRealScalesAndRotations) {
  for (const char* protection : {"permuted", "rotated"})
    for (const bool integers : {true, false})
      for (const Finding& f : attack(case_of(integers, protection, Coefficients::kSignedReal))) {
        EXPECT_TRUE(f.applicable);
        EXPECT_LE(f.score, f.chance + 3 * f.noise) << f.target;
      }
}

TEST(IntegerScales, DeadChannelsAndEmptyOperandsGiveNoScore) {
  attack(case_of(true, "permuted", Coefficients::kPositiveInteger, Reuse::kNone, 1, 1));
  LayerCase layer = case_of(true, "permuted", Coefficients::kPositiveInteger, Reuse::kNone, 3, 2);
  // A dead channel, then nothing but zeros, then nothing at all.
  for (int64_t k = 0; k < 9; ++k)
    for (int64_t c = 0; c < 3; ++c) layer.view.front().w.at(0, k, c) = 0;
  attack(layer);
  StepView& view = layer.view.front();
  for (Operand* operand : {&view.w, &view.w_again, &view.x}) {
    std::fill(operand->values.begin(), operand->values.end(), 0.0F);
    const bool is_weight = operand != &view.x;
    for (const Finding& f : attack(layer))
      if (!is_weight || f.target.find("one weight") != std::string::npos) EXPECT_FALSE(f.beats_chance()) << f.target;
  }
  view.x = view.w = {};
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
}

}  // namespace attack_08_integer_scales_test
}  // namespace tempo::audit
