#include "audit/information.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace information_test {

Operand column(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Operand out(static_cast<int64_t>(size), 1, 1, 1);
  for (float& v : out.values) v = normal(random);
  return out;
}

TEST(Information, EqualTensorsShareTheEntropyOfTheBins) {
  const Operand x = column(20'000, 1);
  EXPECT_NEAR(mutual_information_bits(x, x), 4.0, 0.02);  // 16 bins
}

TEST(Information, IndependentTensorsShareNothing) {
  EXPECT_LT(mutual_information_bits(column(20'000, 1), column(20'000, 2)), 0.01);
}

TEST(Information, GaussianPairMatchesTheClosedForm) {
  const double correlation = 0.8;
  const Operand a = column(100'000, 3), noise = column(100'000, 4);
  Operand b = a;
  for (size_t i = 0; i < b.values.size(); ++i)
    b.values[i] =
        static_cast<float>(correlation * a.values[i] + std::sqrt(1 - correlation * correlation) * noise.values[i]);
  EXPECT_NEAR(mutual_information_bits(a, b), -0.5 * std::log2(1 - correlation * correlation), 0.06);
}

TEST(Information, DifferentShapesAndEmptyTensorsShareZeroBits) {
  EXPECT_EQ(mutual_information_bits(Operand(), Operand()), 0);
  EXPECT_EQ(mutual_information_bits(column(10, 1), column(11, 1)), 0);
  const Operand zeros(100, 1, 1, 1);
  EXPECT_EQ(mutual_information_bits(zeros, zeros), 0);
}

TEST(Information, EffectiveCountIsOneForAPermutationAndAllForEntriesOfOneSize) {
  Matrix swap(2, 2), hadamard(2, 2);
  swap << 0, 1, -1, 0;
  hadamard << std::sqrt(0.5), std::sqrt(0.5), std::sqrt(0.5), -std::sqrt(0.5);
  EXPECT_NEAR(effective_count(swap), 1, 1e-12);
  EXPECT_NEAR(effective_count(hadamard), 2, 1e-12);
}

TEST(Information, KeyBitsEqualTheLogarithmOfTheNumberOfKeys) {
  const BlindingOptions none{.protection = "none"};
  const BlindingOptions integer{.protection = "permuted", .coefficients = Coefficients::kPositiveInteger};
  EXPECT_EQ(channel_key_bits(none, 64), 0);
  EXPECT_NEAR(channel_key_bits(integer, 4), std::log2(24.0) + 16, 1e-6);
  const BlindingOptions rotated{.protection = "rotated"};
  EXPECT_NEAR(channel_key_bits(rotated, 4), 2 * (std::log2(24.0) + 4), 1e-6);
  EXPECT_NEAR(row_key_bits(rotated, 256), 2 * (std::lgamma(257.0) / std::log(2.0) + 256), 1e-6);
}

}  // namespace information_test
}  // namespace tempo::audit
