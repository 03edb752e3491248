#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_15_layer_linking_test {

Finding attack(const LayerCase& layer) {
  Random random(11);
  const auto findings = kLayerLinking.run(layer, random);
  EXPECT_EQ(findings.size(), 1U);
  const Finding& f = findings.front();
  EXPECT_TRUE(f.score >= 0 && f.score <= 1 && f.chance >= 0 && f.chance <= 1 && f.noise >= 0) << f.target;
  return f;
}

/// A permutation with scales of both signs; scales 1 if not `scaled`.
Matrix monomial(int64_t size, bool scaled, Random& random) {
  std::vector<int> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  Matrix key = Matrix::Zero(size, size);
  std::uniform_real_distribution<double> exponent(-2, 2);
  for (int64_t i = 0; i < size; ++i)
    key(i, order[static_cast<size_t>(i)]) = scaled ? std::exp2(exponent(random)) * (random() % 2 == 0 ? 1 : -1) : 1;
  return key;
}

struct TwoLayers {
  LayerCase first, second;
};

enum class Keys { kMovedRows, kScaledRows, kRotated };

/// The second layer reads ReLU(standardised Y) of the first.
TwoLayers two_layers(Keys keys, uint64_t seed) {
  Random random(seed);
  TwoLayers out;
  out.first = testing::synthetic_case({.images = 32, .tile = 4, .kernel = 1, .in = 6, .out = 20, .seed = seed},
                                      BlindingOptions{.protection = "none"});
  StepTruth& truth = out.first.truth[0];
  // Channels of weights that are sums of a few inputs differ in shape.
  Matrix x_next = truth.y.by_channel();
  for (Eigen::Index c = 0; c < x_next.cols(); ++c) {
    const double mean = x_next.col(c).mean();
    const double sd = std::sqrt((x_next.col(c).array() - mean).square().mean());
    x_next.col(c) = ((x_next.col(c).array() - mean) / sd).max(0.0);
  }
  const Operand next = from_channels(x_next, truth.y.rows, truth.y.height, truth.y.width);
  const auto row_key = [&]() -> Matrix {
    return keys == Keys::kRotated ? random_orthogonal(next.rows, random)
                                  : monomial(next.rows, keys == Keys::kScaledRows, random);
  };
  const auto channel_key = [&]() -> Matrix {
    return keys == Keys::kRotated ? random_orthogonal(20, random) : monomial(20, true, random);
  };
  truth.right = channel_key();
  out.first.view[0].y = transform(row_key(), truth.y, truth.right);
  out.second.view.resize(1);
  out.second.truth.resize(1);
  out.second.truth[0].inner = channel_key();
  out.second.truth[0].x = next;
  out.second.view[0].w = Operand(3, 1, 1, 20);
  out.second.view[0].x = transform(row_key(), next, out.second.truth[0].inner);
  return out;
}

TEST(LayerLinking, LinksChannelsThatAreOnlyMovedAndScaled) {
  TwoLayers layers = two_layers(Keys::kMovedRows, 1);
  layers.first.next = &layers.second;
  EXPECT_GE(attack(layers.first).score, 0.9);
}

TEST(LayerLinking, IsAtChanceWhereAllRowsAreMixed) {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    TwoLayers layers = two_layers(Keys::kRotated, seed);
    layers.first.next = &layers.second;
    const Finding f = attack(layers.first);
    EXPECT_TRUE(f.applicable);
    EXPECT_LE(f.score, f.chance + 3 * f.noise) << seed;
  }
}

TEST(LayerLinking, ScaledRowsDefeatTheAttack) {
  TwoLayers layers = two_layers(Keys::kScaledRows, 1);
  layers.first.next = &layers.second;
  EXPECT_LE(attack(layers.first).score, 0.5);
}

TEST(LayerLinking, TheAttackIsNotApplicableWithoutAFittingNextLayer) {
  TwoLayers layers = two_layers(Keys::kMovedRows, 2);
  EXPECT_FALSE(attack(layers.first).applicable);  // no next layer
  LayerCase empty;
  empty.view.resize(1);
  empty.truth.resize(1);
  layers.first.next = &empty;
  EXPECT_FALSE(attack(layers.first).applicable);
  layers.first.next = &layers.second;
  std::fill(layers.second.view[0].x.values.begin(), layers.second.view[0].x.values.end(), 0.0F);
  attack(layers.first);
  layers.second.view[0].x = Operand(4, 1, 1, 7);
  EXPECT_FALSE(attack(layers.first).applicable);
  EXPECT_FALSE(attack(empty).applicable);
}

}  // namespace attack_15_layer_linking_test
}  // namespace tempo::audit
