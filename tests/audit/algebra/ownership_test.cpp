#include "audit/algebra/ownership.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace tempo::audit {
namespace ownership_test {

Operand random_operand(int64_t rows, int64_t height, int64_t width, int64_t channels, Random& random) {
  Operand out = from_channels(random_gaussian(rows * height * width, channels, random), rows, height, width);
  for (float& v : out.values) v = std::max(v, 0.0F);
  return out;
}

TEST(Ownership, FindsEveryRowThatIsOnlyMovedAndScaled) {
  Random random(1);
  const Operand plain = random_operand(300, 3, 3, 5, random);
  std::vector<int> source(300);
  std::iota(source.begin(), source.end(), 0);
  std::shuffle(source.begin(), source.end(), random);
  Matrix left = Matrix::Zero(300, 300);
  for (int i = 0; i < 300; ++i) left(i, source[static_cast<size_t>(i)]) = i % 2 == 0 ? -3 : 0.25;
  const Matrix inner = random_orthogonal(5, random);
  const Ownership found = owners_of_rows(transform(left, plain, inner), inner.transpose(), plain, 100, {}, random);
  ASSERT_EQ(found.blinded.size(), 100U);
  for (size_t i = 0; i < found.blinded.size(); ++i)
    EXPECT_EQ(found.owner[i], source[static_cast<size_t>(found.blinded[i])]);
}

TEST(Ownership, RowsOfZerosAndMisfittingShapesHaveNoOwner) {
  Random random(2);
  const Operand plain = random_operand(4, 1, 1, 6, random);
  EXPECT_TRUE(owners_of_rows(Operand(4, 1, 1, 6), {}, plain, 100, {}, random).blinded.empty());
  EXPECT_TRUE(owners_of_rows(Operand(), {}, plain, 100, {}, random).blinded.empty());
  EXPECT_TRUE(owners_of_rows(Operand(4, 1, 1, 5), {}, plain, 100, {}, random).blinded.empty());
}

TEST(Spread, IndicesAreEvenlySpacedAndWithinRange) {
  EXPECT_EQ(spread(3, 10), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(spread(10, 2), (std::vector<int64_t>{0, 5}));
  EXPECT_TRUE(spread(0, 5).empty());
}

TEST(SampleChannels, SkipsPaddingAndSeesEveryPosition) {
  Operand x(8, 1, 4, 2);
  for (int64_t r = 0; r < 8; ++r)
    for (int64_t p = 1; p < 4; ++p) x.at(r, p, 1) = static_cast<float>(p);
  const Matrix sample = sample_channels(x, 8, true);
  EXPECT_EQ(sample_channels(x, 1000, false).rows(), 32);
  std::set<double> seen(sample.col(1).begin(), sample.col(1).end());
  EXPECT_EQ(seen, (std::set<double>{1, 2, 3}));
}

TEST(AssignTiesAtRandom, ClearAssignmentsAreKeptAndTiesAreDrawn) {
  Random random(3);
  Matrix clear = Matrix::Zero(3, 3);
  clear(0, 2) = clear(1, 0) = clear(2, 1) = 1;
  EXPECT_EQ(assign_ties_at_random(clear, random), (std::vector<int>{2, 0, 1}));
  int first_in_place = 0;
  for (int i = 0; i < 400; ++i) first_in_place += assign_ties_at_random(Matrix::Zero(4, 4), random)[0] == 0 ? 1 : 0;
  EXPECT_NEAR(first_in_place, 100, 45);
}

TEST(LinkingChance, EqualsChanceOfPermutationsAndIsWiderIfColumnsAreShared) {
  Random random(4);
  std::vector<int> all(20), none(20, 0);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_NEAR(linking_chance(all, all, 20, random).stddev, 1.0 / 20, 0.015);
  const Chance shared = linking_chance(none, none, 20, random);
  EXPECT_NEAR(shared.mean, 1.0 / 20, 1e-12);
  EXPECT_GT(shared.stddev, 0.1);  // all right or all wrong
}

}  // namespace ownership_test
}  // namespace tempo::audit
