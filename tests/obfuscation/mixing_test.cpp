/// How evenly row keys mix. A random rotation turns any direction into numbers that look normal: their excess kurtosis
/// is zero. What deviates tells an attacker which rows were mixed with which.
#include <gtest/gtest.h>

#include <cmath>

#include "obfuscation/blind.h"
#include "obfuscation/key_ring.h"

namespace tempo::obfuscation {
namespace {

constexpr int64_t kDirections = 16;

/// Columns of rows: single rows, or whole images of 256 adjacent rows.
std::vector<float> directions(int64_t rows, int64_t adjacent, Csprng& random) {
  std::vector<float> x(static_cast<size_t>(rows * kDirections));
  for (int64_t c = 0; c < kDirections; ++c) {
    const int64_t first = int64_t{random.below(static_cast<uint32_t>(rows / adjacent))} * adjacent;
    for (int64_t i = 0; i < adjacent; ++i) x[static_cast<size_t>((first + i) * kDirections + c)] = 1;
  }
  return x;
}

/// The excess kurtosis of what blinding makes of the directions, where it is not zero.
double excess_kurtosis(const BlindingOptions& options, int64_t rows, int64_t adjacent) {
  Csprng random(key_from_seed_insecure(3));
  const KeyRing keys(key_from_seed_insecure(4), make_protection(options));
  const Key key = keys.derive({.layer = "a"}, KeyRole::kLeft, static_cast<uint32_t>(rows));
  const Key one{.size = kDirections, .rounds = {}};
  const std::vector<float> x = directions(rows, adjacent, random);
  std::vector<float> mixed(x.size());
  ThreadPool threads(1);
  blind({matrix_geometry(rows, kDirections), {&key, Form::kDirect}, {&one, Form::kDirect}},
        {{ElementType::kFloat32, x.data()}}, reinterpret_cast<std::byte*>(mixed.data()), threads);
  const int64_t group = key.group == 0 ? rows : key.group;
  double second = 0, fourth = 0;
  int64_t count = 0;
  for (int64_t c = 0; c < kDirections; ++c)
    for (int64_t first = 0; first < rows; first += group) {
      double energy = 0, squares = 0;
      for (int64_t i = first; i < first + group; ++i) {
        const double v = mixed[static_cast<size_t>(i * kDirections + c)];
        energy += v * v;
        squares += v * v * v * v;
      }
      if (energy == 0) continue;  // a single row lies in one group only
      count += group;
      second += energy;
      fourth += squares;
    }
  return static_cast<double>(count) * fourth / (second * second) - 3;
}

TEST(Mixing, TwoRoundsWithinGroupsLookLikeARandomRotationAndOneRoundDoesNot) {
  constexpr int64_t kRows = 16'384;
  for (const int64_t group : {1024, 4096, 16'384}) {
    SCOPED_TRACE(group);
    EXPECT_LT(std::abs(excess_kurtosis({.row_group = group}, kRows, 1)), 0.6);
    EXPECT_LT(std::abs(excess_kurtosis({.row_group = group}, kRows, 256)), 0.6);
  }
  EXPECT_LT(std::abs(excess_kurtosis({.row_group = 4096}, kRows, 1)), 0.15);
  EXPECT_LT(std::abs(excess_kurtosis({.row_group = 4096}, kRows, 256)), 0.15);
  EXPECT_GT(excess_kurtosis({.row_rounds = 1, .row_group = 4096}, kRows, 1), 5);
}

TEST(Mixing, SmallGroupsMixSingleRowsMoreEvenlyThanAllRowsTogether) {
  constexpr int64_t kRows = 65'536;
  const double of_all = excess_kurtosis({}, kRows, 1), of_groups = excess_kurtosis({.row_group = 4096}, kRows, 1);
  EXPECT_GT(of_all, 0.5) << "a row meets each block of the second round about once";
  EXPECT_LT(std::abs(of_groups), 0.15);
}

}  // namespace
}  // namespace tempo::obfuscation
