#include "integrity/projection.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <random>
#include <vector>

#include "integrity/projection_kernels.h"

namespace tempo::integrity {
namespace projection_test {

constexpr unsigned kSeed = 7;

template <typename T>
std::vector<T> random_values(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = static_cast<T>(normal(random));
  return values;
}

template <typename T>
class Projection : public ::testing::Test {};
using ElementTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Projection, ElementTypes);

TYPED_TEST(Projection, EveryIsaMatchesTheReference) {
  using T = TypeParam;
  const auto of = [](const ProjectionKernelSet& set) -> const ProjectionKernels<T>& {
    if constexpr (sizeof(T) == 4)
      return set.f32;
    else
      return set.f64;
  };
  const ProjectionKernels<T>& reference = of(reference_projection_kernels());
  for (const int64_t target : hwy::SupportedAndGeneratedTargets())
    for (const int64_t rows : {1, 2, 3, 7, 64})
      for (const int64_t channels : {1, 3, 8, 16, 17, 31, 32, 33, 200})
        for (const int count : {1, 2, 3, 4}) {
          SCOPED_TRACE(
              fmt::format("{} {}x{}, {} vectors, seed {}", hwy::TargetName(target), rows, channels, count, kSeed));
          const ProjectionKernels<T>& simd = of(projection_kernels(target));
          const auto x = random_values<T>(rows * channels, kSeed), v = random_values<T>(count * channels, kSeed + 1);
          const auto w = random_values<T>(count * rows, kSeed + 2);
          const T tolerance = 64 * std::numeric_limits<T>::epsilon() * static_cast<T>(std::sqrt(rows + channels));
          std::vector<T> expected(static_cast<size_t>(count * rows)), found(expected.size());
          const T energy = reference.project(x.data(), rows, channels, v.data(), count, expected.data(), rows, true);
          // All terms of one sign: the error grows with the sum.
          const T of_energy =
              energy * std::numeric_limits<T>::epsilon() * static_cast<T>(4 * std::sqrt(rows * channels));
          EXPECT_NEAR(simd.project(x.data(), rows, channels, v.data(), count, found.data(), rows, true), energy,
                      of_energy);
          EXPECT_EQ(simd.project(x.data(), rows, channels, v.data(), count, found.data(), rows, false), 0);
          for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], tolerance);
          const int64_t columns = std::min<int64_t>(channels, kColumns);
          std::vector<T> sums(static_cast<size_t>(count * kColumns)), simd_sums(sums.size());
          reference.accumulate(x.data(), rows, channels, columns, w.data(), rows, count, sums.data());
          simd.accumulate(x.data(), rows, channels, columns, w.data(), rows, count, simd_sums.data());
          for (size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(simd_sums[i], sums[i], tolerance);
          EXPECT_NEAR(simd.sum_of_squares(x.data(), rows * channels), energy, of_energy);
        }
}

TYPED_TEST(Projection, ProjectingRowsAndColumnsAreTransposesOfEachOther) {
  using T = TypeParam;
  ThreadPool threads(2);
  const int64_t rows = 3001, channels = 70, count = 10;
  const auto x = random_values<T>(rows * channels, kSeed), v = random_values<T>(count * channels, kSeed + 1);
  const auto w = random_values<T>(count * rows, kSeed + 2);
  std::vector<T> planes(static_cast<size_t>(count * rows));
  const double squares = project(x.data(), rows, channels, v.data(), count, planes.data(), threads);
  std::vector<double> sums(static_cast<size_t>(count * channels));
  accumulate(x.data(), rows, channels, w.data(), count, sums.data(), threads);
  double there = 0, back = 0, energy = 0;
  for (size_t i = 0; i < planes.size(); ++i) there += static_cast<double>(planes[i]) * static_cast<double>(w[i]);
  for (size_t i = 0; i < sums.size(); ++i) back += sums[i] * static_cast<double>(v[i]);
  for (const T value : x) energy += static_cast<double>(value) * static_cast<double>(value);
  EXPECT_NEAR(there, back, 1e-4 * energy * static_cast<double>(std::numeric_limits<T>::epsilon()) * 1e4);
  EXPECT_NEAR(squares / energy, 1, 1e-5);
}

}  // namespace projection_test
}  // namespace tempo::integrity
