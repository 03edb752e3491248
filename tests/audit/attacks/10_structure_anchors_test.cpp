#include <gtest/gtest.h>

#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_10_structure_anchors_test {

using testing::finding_of;

std::vector<Finding> attack(const LayerCase& layer) { return testing::run_checked(kStructureAnchors, layer); }

LayerCase padded(const BlindingOptions& blinding, uint64_t seed) {
  return testing::synthetic_case(
      {.images = 32, .tiles_y = 4, .tiles_x = 4, .tile = 2, .in = 6, .out = 3, .padded = true, .seed = seed}, blinding);
}

TEST(StructureAnchors, PaddingRevealsThePlaceOfTiles) {
  for (const Coefficients c : {Coefficients::kPositiveInteger, Coefficients::kSignedReal}) {
    const Finding f =
        finding_of(attack(padded(BlindingOptions{.protection = "permuted", .coefficients = c}, 1)), "place");
    EXPECT_GE(f.score, 0.95);
    EXPECT_NEAR(f.chance, 1.0 / 9, 0.03);
  }
}

TEST(StructureAnchors, ThePlaceOfTilesIsAtChanceWhereAllRowsAreMixed) {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    const Finding f = finding_of(attack(padded(BlindingOptions{.protection = "rotated"}, seed)), "place");
    EXPECT_TRUE(f.applicable);
    EXPECT_LE(f.score, f.chance + 3 * f.noise) << seed;
  }
}

TEST(StructureAnchors, CountsDeadChannelsUnderAnyKeys) {
  Random random(7);
  LayerCase layer = padded(BlindingOptions{.protection = "none"}, 2);
  EXPECT_FALSE(finding_of(attack(layer), "dead").applicable);
  Operand& x = layer.truth[0].x;
  for (size_t i = 0; i < x.values.size(); ++i)
    if (i % 6 == 1 || i % 6 == 4) x.values[i] = 0;
  layer.truth[0].inner = random_orthogonal(6, random);
  layer.view[0].x = transform(random_orthogonal(x.rows, random), x, layer.truth[0].inner);
  EXPECT_EQ(finding_of(attack(layer), "dead").score, 1);
  // Noise of the size of bfloat16 hides them.
  std::uniform_real_distribution<float> error(-0.004F, 0.004F);
  for (float& v : layer.view[0].x.values) v *= 1 + error(random);
  EXPECT_EQ(finding_of(attack(layer), "dead").score, 0);
}

/// X of rows that sum to one, as softmax makes them.
LayerCase attention(const BlindingOptions& blinding, int64_t rows, int64_t channels) {
  LayerCase layer = testing::synthetic_case({.images = rows,
                                             .tiles_y = 1,
                                             .tiles_x = 1,
                                             .tile = 1,
                                             .kernel = 1,
                                             .in = channels,
                                             .out = 4,
                                             .zeros = 0,
                                             .seed = 3},
                                            blinding);
  Random random(5);
  const Matrix key = layer.truth[0].inner;
  Matrix x = layer.truth[0].x.by_channel(), left = layer.view[0].x.by_channel() * key.inverse();
  // Rows of L X are multiples of rows of X here: the multiple goes on to the normalised rows.
  const Matrix scales = left.rowwise().norm();
  for (Eigen::Index i = 0; i < x.rows(); ++i) {
    x.row(i) /= x.row(i).sum();
    left.row(i) = x.row(i) * (left(i, 0) < 0 ? -1 : 1) * scales(i) / scales.mean();
  }
  layer.truth[0].x = from_channels(x, rows, 1, 1);
  layer.view[0].x = from_channels(left * key, rows, 1, 1);
  return layer;
}

TEST(StructureAnchors, RowSumsRevealScalesOfTheInnerKey) {
  const Finding f = finding_of(
      attack(attention({.protection = "permuted", .coefficients = Coefficients::kSignedReal}, 256, 12)), "sums");
  EXPECT_TRUE(f.applicable);
  EXPECT_GE(f.score, 0.9);
  EXPECT_GT(f.score, f.chance + 3 * f.noise);
}

TEST(StructureAnchors, MissingAndZeroOperandsDoNotCrashTheAttack) {
  LayerCase layer;
  layer.view.resize(1);
  layer.truth.resize(1);
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  LayerCase zeros = padded(BlindingOptions{.protection = "permuted"}, 6);
  std::fill(zeros.view[0].x.values.begin(), zeros.view[0].x.values.end(), 0.0F);
  std::fill(zeros.truth[0].x.values.begin(), zeros.truth[0].x.values.end(), 0.0F);
  attack(zeros);
  for (const int64_t in : {1, 2})
    attack(
        testing::synthetic_case({.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .in = in, .out = 1},
                                BlindingOptions{.protection = "permuted"}));
  attack(attention({.protection = "permuted"}, 3, 5));
  attack(testing::synthetic_case({.images = 2, .tiles_y = 1, .tiles_x = 2, .tile = 1, .in = 1, .out = 1},
                                 BlindingOptions{.protection = "rotated"}));
}

}  // namespace attack_10_structure_anchors_test
}  // namespace tempo::audit
