#include "audit/algebra/matching.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tempo::audit {
namespace matching_test {

double value_of(const Matrix& gain, const std::vector<int>& columns) {
  double sum = 0;
  for (size_t i = 0; i < columns.size(); ++i)
    if (columns[i] >= 0) sum += gain(static_cast<Eigen::Index>(i), columns[i]);
  return sum;
}

/// The largest sum over all ways to give the shorter side distinct partners.
double brute_force(const Matrix& gain) {
  const Matrix wide = gain.rows() <= gain.cols() ? gain : Matrix(gain.transpose());
  std::vector<int> columns(static_cast<size_t>(wide.cols()));
  std::iota(columns.begin(), columns.end(), 0);
  double best = -1e300;
  do {
    double sum = 0;
    for (Eigen::Index i = 0; i < wide.rows(); ++i) sum += wide(i, columns[static_cast<size_t>(i)]);
    best = std::max(best, sum);
  } while (std::next_permutation(columns.begin(), columns.end()));
  return best;
}

TEST(Assign, FindsTheBestAssignmentOfKnownMatrices) {
  Matrix gain(3, 3);
  gain << 1, 2, 3, 2, 4, 6, 3, 6, 9;
  EXPECT_EQ(assign(gain), (std::vector<int>{0, 1, 2}));
  gain << 0, 0, 1, 1, 0, 0, 0, 1, 0;
  EXPECT_EQ(assign(gain), (std::vector<int>{2, 0, 1}));
  // The best single entry (9) is not in the best assignment.
  Matrix two(2, 2);
  two << 9, 8, 8, 1;
  EXPECT_EQ(assign(two), (std::vector<int>{1, 0}));
  EXPECT_TRUE(assign(Matrix(0, 0)).empty());
  EXPECT_EQ(assign(Matrix::Zero(2, 0)), (std::vector<int>{-1, -1}));
  EXPECT_EQ(assign(Matrix::Constant(1, 1, -5)), (std::vector<int>{0}));
}

TEST(Assign, ReachesTheBruteForceOptimum) {
  Random random(3);
  for (int trial = 0; trial < 20; ++trial)
    for (int rows = 1; rows <= 6; ++rows)
      for (int columns = 1; columns <= 6; ++columns) {
        const Matrix gain = random_gaussian(rows, columns, random);
        const std::vector<int> found = assign(gain);
        ASSERT_EQ(found.size(), static_cast<size_t>(rows));
        EXPECT_NEAR(value_of(gain, found), brute_force(gain), 1e-9) << rows << "x" << columns;
        std::vector<int> used;
        for (const int c : found)
          if (c >= 0) used.push_back(c);
        std::sort(used.begin(), used.end());
        EXPECT_TRUE(std::adjacent_find(used.begin(), used.end()) == used.end());
        EXPECT_EQ(used.size(), static_cast<size_t>(std::min(rows, columns)));
      }
}

TEST(Assign, UndoesAPermutationOf256) {
  Random random(4);
  std::vector<int> order(256);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  Matrix gain = 0.1 * random_gaussian(256, 256, random);
  for (int i = 0; i < 256; ++i) gain(i, order[static_cast<size_t>(i)]) += 10;
  EXPECT_EQ(assign(gain), order);
}

TEST(AbsoluteCosines, RowsOfKnownMatricesHaveTheExpectedCosines) {
  Matrix a(3, 2), b(2, 2);
  a << 1, 0, 0, 0, 3, 3;
  b << -2, 0, 0, 5;
  Matrix wanted(3, 2);
  wanted << 1, 0, 0, 0, std::sqrt(0.5), std::sqrt(0.5);
  EXPECT_LT((absolute_cosines(a, b) - wanted).norm(), 1e-12);
}

TEST(MatchDirections, FindsTheOrderUnderAnySignsAndLengths) {
  Random random(5);
  const Matrix truth = random_gaussian(12, 20, random);
  Matrix recovered(12, 20);
  for (int i = 0; i < 12; ++i) recovered.row(i) = (i % 2 == 0 ? -3.0 : 0.1) * truth.row((i + 5) % 12);
  const DirectionMatch match = match_directions(recovered, truth);
  EXPECT_NEAR(match.median_cosine, 1, 1e-12);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(match.truth_of[static_cast<size_t>(i)], (i + 5) % 12);
}

TEST(MatchDirections, MatchesSetsOfDifferentSizes) {
  Random random(6);
  const Matrix truth = random_orthogonal(16, random);
  const DirectionMatch few = match_directions(truth.topRows(4), truth);
  EXPECT_NEAR(few.median_cosine, 1, 1e-12);
  EXPECT_EQ(few.truth_of, (std::vector<int>{0, 1, 2, 3}));
  const DirectionMatch many = match_directions(truth, truth.topRows(4));
  EXPECT_EQ(std::count(many.truth_of.begin(), many.truth_of.end(), -1), 12);
  EXPECT_NEAR(many.median_cosine, 1, 1e-12);
  EXPECT_EQ(match_directions(Matrix(0, 4), truth.leftCols(4)).median_cosine, 0);
}

TEST(MeasureChance, ReturnsMeanAndStandardDeviationOfTheScores) {
  int call = 0;
  const Chance chance = measure_chance(4, [&] { return static_cast<double>(call++); });
  EXPECT_EQ(call, 4);
  EXPECT_DOUBLE_EQ(chance.mean, 1.5);
  EXPECT_NEAR(chance.stddev, std::sqrt(5.0 / 3), 1e-12);
  EXPECT_EQ(measure_chance(1, [] { return 0.25; }).stddev, 0);
}

TEST(DirectionChance, PredictsWhatGuessesScore) {
  Random random(7);
  const Matrix guess = random_orthogonal(32, random);
  const Chance chance = direction_chance(guess, random, 40);
  EXPECT_GT(chance.mean, 0.2);  // far above 0: matching picks the best
  EXPECT_LT(chance.mean, 0.6);
  EXPECT_GT(chance.stddev, 0);
  const double score = match_directions(guess, random_orthogonal(32, random)).median_cosine;
  EXPECT_NEAR(score, chance.mean, 5 * chance.stddev);
}

TEST(PermutationChance, AgreesWithExperiment) {
  Random random(8);
  std::vector<int> order(20);
  std::iota(order.begin(), order.end(), 0);
  const Chance measured = measure_chance(20000, [&] {
    std::shuffle(order.begin(), order.end(), random);
    int fixed = 0;
    for (int i = 0; i < 20; ++i) fixed += order[static_cast<size_t>(i)] == i;
    return fixed / 20.0;
  });
  const Chance exact = permutation_chance(20);
  EXPECT_NEAR(measured.mean, exact.mean, 0.003);
  EXPECT_NEAR(measured.stddev, exact.stddev, 0.003);
}

TEST(RandomOrthogonal, MatricesAreOrthogonalAndUniformlyDistributed) {
  Random random(9);
  for (const int64_t size : {1, 2, 5, 40}) {
    const Matrix q = random_orthogonal(size, random);
    EXPECT_LT((q.transpose() * q - Matrix::Identity(size, size)).norm(), 1e-12);
  }
  // Entries of a uniform one have mean 0 and variance 1/n; a QR without the signs mended has a biased diagonal.
  Vector sum = Vector::Zero(4);
  double squares = 0;
  constexpr int kTrials = 4000;
  for (int i = 0; i < kTrials; ++i) {
    const Matrix q = random_orthogonal(4, random);
    sum += q.diagonal();
    squares += q(0, 0) * q(0, 0);
  }
  EXPECT_LT((sum / kTrials).cwiseAbs().maxCoeff(), 0.04);
  EXPECT_NEAR(squares / kTrials, 0.25, 0.02);
}

TEST(AbsoluteCosine, ComparesOperandsOfOneShapeAndIsZeroOtherwise) {
  Operand a(1, 1, 1, 3), b(1, 1, 1, 3), other(3, 1, 1, 1);
  a.values = {1, 2, 2};
  b.values = {-2, -4, -4};
  other.values = a.values;
  EXPECT_NEAR(absolute_cosine(a, b), 1, 1e-12);
  b.values = {2, -1, 0};
  EXPECT_NEAR(absolute_cosine(a, b), 0, 1e-12);
  EXPECT_EQ(absolute_cosine(a, other), 0);  // not of one shape
  EXPECT_EQ(absolute_cosine(Operand(), Operand()), 0);
  b.values = {0, 0, 0};
  EXPECT_EQ(absolute_cosine(a, b), 0);
}

}  // namespace matching_test
}  // namespace tempo::audit
