#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_09_label_clusters_test {

using testing::finding_of;

std::vector<Finding> attack(const LayerCase& layer) { return testing::run_checked(kLabelClusters, layer); }

LayerCase last_layer(const BlindingOptions& blinding, uint64_t seed) {
  return testing::synthetic_case({.images = 256,
                                  .tiles_y = 1,
                                  .tiles_x = 1,
                                  .tile = 1,
                                  .kernel = 1,
                                  .in = 16,
                                  .out = 10,
                                  .logit_gradients = true,
                                  .seed = seed},
                                 blinding);
}

TEST(LabelClusters, ReadsLabelsWhereRowsAreNotMixed) {
  const BlindingOptions integers{.protection = "permuted", .coefficients = Coefficients::kPositiveInteger};
  const BlindingOptions reals{.protection = "permuted", .coefficients = Coefficients::kSignedReal};
  for (const BlindingOptions& blinding : {integers, reals, BlindingOptions{.protection = "none"}}) {
    const auto findings = attack(last_layer(blinding, 2));
    EXPECT_GE(finding_of(findings, "by direction").score, 0.8);
    EXPECT_GE(finding_of(findings, "by signs").score, 0.99);
    EXPECT_LT(finding_of(findings, "by signs").chance, 0.1);
  }
}

TEST(LabelClusters, IsAtChanceWhereAllRowsAreMixed) {
  for (const uint64_t seed : {1, 2, 3})
    for (const Finding& f : attack(last_layer(BlindingOptions{.protection = "rotated"}, seed))) {
      EXPECT_TRUE(f.applicable) << f.target;
      EXPECT_LE(f.score, f.chance + 3 * f.noise) << f.target << " seed " << seed;
    }
}

TEST(LabelClusters, IsAtChanceOnGradientsThatDoNotKnowLabels) {
  const LayerCase layer =
      testing::synthetic_case({.images = 64, .tile = 2, .seed = 4}, BlindingOptions{.protection = "permuted"});
  const auto findings = attack(layer);
  const Finding& f = finding_of(findings, "by direction");
  EXPECT_TRUE(f.applicable);
  EXPECT_LE(f.score, f.chance + 3 * f.noise);
  EXPECT_FALSE(finding_of(findings, "by signs").applicable);
}

TEST(LabelClusters, MissingAndTinyOperandsDoNotCrashTheAttack) {
  LayerCase layer;
  layer.view.resize(1);
  layer.truth.resize(1);
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  layer.view[0].dy = layer.truth[0].dy = Operand(6, 1, 1, 3);
  layer.truth[0].right = Matrix::Identity(3, 3);
  layer.truth[0].labels = {0, 1, 2};
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  for (float& v : layer.view[0].dy.values) v = 1;  // all rows alike
  layer.truth[0].dy = layer.view[0].dy;
  attack(layer);
  const BlindingOptions none{.protection = "permuted", .reuse = Reuse::kNone};
  for (const Finding& f : attack(last_layer(none, 5))) EXPECT_FALSE(f.applicable);
  attack(testing::synthetic_case({.images = 8, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .in = 1, .out = 1},
                                 BlindingOptions{.protection = "permuted"}));
}

}  // namespace attack_09_label_clusters_test
}  // namespace tempo::audit
