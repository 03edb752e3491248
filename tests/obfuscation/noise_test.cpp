#include "obfuscation/noise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace tempo::obfuscation {
namespace noise_test {

template <typename T>
std::vector<T> noise(uint64_t seed, double deviation, size_t count) {
  Csprng random(key_from_seed_insecure(seed));
  std::vector<T> values(count);
  fill_normal(random, deviation, std::span<T>(values));
  return values;
}

template <typename T>
class Noise : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Noise, Types);

// Expected moments of a Gaussian, each within five deviations of its estimate from so many values.
TYPED_TEST(Noise, NoiseHasTheMomentsOfAGaussian) {
  constexpr size_t kCount = 1'000'000;
  constexpr double kDeviation = 3;
  double sums[5] = {};
  for (const TypeParam value : noise<TypeParam>(1, kDeviation, kCount))
    for (int power = 1; power <= 4; ++power) sums[power] += std::pow(static_cast<double>(value) / kDeviation, power);
  const double root = std::sqrt(double{kCount});
  EXPECT_NEAR(sums[1] / kCount, 0, 5 * 1 / root);
  EXPECT_NEAR(sums[2] / kCount, 1, 5 * std::sqrt(2.0) / root);
  EXPECT_NEAR(sums[3] / kCount, 0, 5 * std::sqrt(15.0) / root);
  EXPECT_NEAR(sums[4] / kCount, 3, 5 * std::sqrt(96.0) / root);
}

TYPED_TEST(Noise, NoiseHasTheTailsOfAGaussian) {
  constexpr size_t kCount = 1'000'000;
  const auto values = noise<TypeParam>(2, 1, kCount);
  for (const double bound : {0.5, 1.0, 2.0, 3.0, 4.0}) {
    const double share = std::erfc(bound / std::sqrt(2.0));
    const auto outside = std::count_if(values.begin(), values.end(),
                                       [&](TypeParam v) { return std::abs(v) > static_cast<TypeParam>(bound); });
    EXPECT_NEAR(static_cast<double>(outside) / kCount, share, 5 * std::sqrt(share / kCount)) << bound;
  }
}

TYPED_TEST(Noise, NeighbouringValuesAndHalvesOfABlockAreUncorrelated) {
  const auto values = noise<TypeParam>(3, 1, 1 << 20);
  for (const size_t distance : {size_t{1}, size_t{8}, size_t{512}, size_t{1024}}) {
    double product = 0, of_squares = 0;
    for (size_t i = 0; i + distance < values.size(); ++i) {
      const auto a = static_cast<double>(values[i]), b = static_cast<double>(values[i + distance]);
      product += a * b;
      of_squares += (a * a - 1) * (b * b - 1);
    }
    const double root = std::sqrt(static_cast<double>(values.size()));
    EXPECT_NEAR(product / root, 0, 5) << distance;
    EXPECT_NEAR(of_squares / root, 0, 5 * 2) << distance;
  }
}

TYPED_TEST(Noise, ValuesDoNotDependOnTheLengthAskedFor) {
  const auto longer = noise<TypeParam>(4, 1, 3000);
  for (const size_t count : {size_t{0}, size_t{1}, size_t{15}, size_t{1024}, size_t{2999}}) {
    const auto shorter = noise<TypeParam>(4, 1, count);
    EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin())) << count;
  }
  EXPECT_NE(noise<TypeParam>(5, 1, 3000), longer);
}

TYPED_TEST(Noise, ADeviationOfZeroGivesZeros) {
  for (const TypeParam value : noise<TypeParam>(6, 0, 100)) EXPECT_EQ(value, TypeParam(0));
}

}  // namespace noise_test
}  // namespace tempo::obfuscation
