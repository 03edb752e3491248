#include "audit/algebra/balancing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "audit/algebra/matching.h"

namespace tempo::audit {
namespace balancing_test {

Operand random_weight(int64_t out, int64_t taps, int64_t in, uint64_t seed) {
  Random random(seed);
  std::normal_distribution<float> normal;
  Operand w(out, 1, taps, in);
  for (float& v : w.values) v = normal(random);
  return w;
}

/// Row r of the result is row rows[r] of `w`, times a signed scale; columns alike.
Operand scrambled(const Operand& w, const std::vector<int>& rows, const std::vector<int>& columns, Random& random) {
  std::uniform_real_distribution<float> magnitude(0.1F, 8);
  std::vector<float> a(rows.size()), b(columns.size());
  for (float& v : a) v = random() % 2 == 0 ? magnitude(random) : -magnitude(random);
  for (float& v : b) v = random() % 2 == 0 ? magnitude(random) : -magnitude(random);
  Operand out(w.rows, w.height, w.width, w.channels);
  for (int64_t o = 0; o < w.rows; ++o)
    for (int64_t k = 0; k < w.positions(); ++k)
      for (int64_t c = 0; c < w.channels; ++c) {
        const auto i = static_cast<size_t>(o), j = static_cast<size_t>(c);
        out.at(o, k, c) = a[i] * b[j] * w.at(rows[i], k, columns[j]);
      }
  return out;
}

std::vector<int> shuffled(int64_t size, Random& random) {
  std::vector<int> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

TEST(Balancing, ScaleToSumsReachesTheSumsAskedFor) {
  Random random(1);
  Matrix energy = random_gaussian(6, 9, random).cwiseAbs2();
  energy.row(2).setZero();
  energy.col(5).setZero();
  Vector rows = Vector::Constant(6, 8.0), columns = Vector::Constant(9, 5.0);
  const Scales scales = scale_to_sums(energy, rows, columns);
  const Matrix balanced = scales.rows.asDiagonal() * energy * scales.columns.asDiagonal();
  for (Eigen::Index i = 0; i < 6; ++i) EXPECT_NEAR(balanced.row(i).sum(), i == 2 ? 0 : 8, 1e-9);
  for (Eigen::Index j = 0; j < 9; ++j) EXPECT_NEAR(balanced.col(j).sum(), j == 5 ? 0 : 5, 1e-9);
}

TEST(Balancing, FindsOrderScalesAndSigns) {
  for (int64_t taps : {1, 9}) {
    SCOPED_TRACE(taps);
    Random random(2);
    const Operand w = random_weight(12, taps, 20, 3);
    const std::vector<int> rows = shuffled(12, random), columns = shuffled(20, random);
    const Operand blinded = scrambled(w, rows, columns, random);
    const ChannelMatch match = match_channels(balance(blinded), balance(w));
    EXPECT_EQ(match.rows, rows);
    EXPECT_EQ(match.columns, columns);
    EXPECT_GT(absolute_cosine(fit_to_reference(blinded, w, match), w), 1 - 1e-6);
  }
}

TEST(Balancing, FindsTheOrderWithANoisyReference) {
  Random random(4);
  std::normal_distribution<float> normal;
  const Operand w = random_weight(24, 9, 16, 5);
  Operand near = w;
  for (float& v : near.values) v += 0.1F * normal(random);
  const std::vector<int> rows = shuffled(24, random), columns = shuffled(16, random);
  const Operand blinded = scrambled(w, rows, columns, random);
  const ChannelMatch match = match_channels(balance(blinded), balance(near));
  EXPECT_EQ(match.rows, rows);
  EXPECT_EQ(match.columns, columns);
  // Nearer to W than the reference is.
  EXPECT_GT(absolute_cosine(fit_to_reference(blinded, near, match), w), absolute_cosine(near, w));
}

TEST(Balancing, OddInputsGiveFiniteResults) {
  Operand zero(3, 1, 2, 4), one(1, 1, 1, 1), sparse(3, 1, 1, 3);
  one.values[0] = -2;
  // A triangle cannot be balanced: the scales of its corner grow without end.
  for (int64_t o = 0; o < 3; ++o)
    for (int64_t c = o; c < 3; ++c) sparse.at(o, 0, c) = 1;
  for (const Operand& w : {zero, one, sparse}) {
    const ChannelMatch match = match_channels(balance(w), balance(w));
    const Operand fitted = fit_to_reference(w, w, match);
    EXPECT_TRUE(std::all_of(fitted.values.begin(), fitted.values.end(), [](float v) { return std::isfinite(v); }));
  }
}

TEST(Balancing, ShareOfChannelsRightCountsCorrectDestinations) {
  Matrix key = Matrix::Zero(3, 3);
  key(0, 2) = -3;
  key(1, 0) = 0.5;
  key(2, 1) = 2;
  EXPECT_EQ(destinations(key), (std::vector<int>{2, 0, 1}));
  EXPECT_DOUBLE_EQ(share_of_channels_right({1, 2, 0}, destinations(key)), 1);
  EXPECT_DOUBLE_EQ(share_of_channels_right({1, 0, 2}, destinations(key)), 1.0 / 3);
  EXPECT_DOUBLE_EQ(share_of_channels_right({-1, -1, -1}, destinations(key)), 0);
}

}  // namespace balancing_test
}  // namespace tempo::audit
