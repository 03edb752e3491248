// What a known first layer makes of other images gives the first channel key away, unless those images are of another
// kind.
#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_25_known_first_layer_test {

using testing::run_checked;

constexpr testing::SyntheticOptions kVictim{
    .images = 64, .tiles_y = 4, .tiles_x = 4, .tile = 1, .in = 16, .out = 4, .steps = 2, .steps_per_key = 2};

void know(LayerCase& layer, const Operand& like) {
  const Matrix rows = like.by_row();
  layer.knowledge.first_layer_products = rows.transpose() * rows;
  layer.knowledge.first_layer_rows = like.rows;
}

TEST(KnownFirstLayer, ImagesOfTheSameKindGiveTheKeyAway) {
  LayerCase layer = testing::synthetic_case(kVictim, {.protection = "rotated"});
  testing::SyntheticOptions other = kVictim;
  other.seed = 2;
  know(layer, testing::synthetic_case(other, {}).truth.front().x);
  const Finding finding = run_checked(kKnownFirstLayer, layer).front();
  EXPECT_GT(finding.score, 0.9);
  EXPECT_TRUE(finding.beats_chance());
  EXPECT_TRUE(finding.given_truth);
}

TEST(KnownFirstLayer, ChannelsWithoutStructureDoNot) {
  LayerCase layer = testing::synthetic_case(kVictim, {.protection = "rotated"});
  Operand noise = layer.truth.front().x;
  Random random(3);
  std::exponential_distribution<float> exponential;
  for (float& v : noise.values) v = exponential(random);
  know(layer, noise);
  EXPECT_FALSE(run_checked(kKnownFirstLayer, layer).front().beats_chance());
}

TEST(KnownFirstLayer, MissingKnowledgeAndTinyOperandsAreHandled) {
  EXPECT_FALSE(run_checked(kKnownFirstLayer, LayerCase{}).front().applicable);
  LayerCase layer = testing::synthetic_case(kVictim, {.protection = "rotated"});
  EXPECT_FALSE(run_checked(kKnownFirstLayer, layer).front().applicable);
  layer = testing::synthetic_case({.images = 1, .tiles_y = 1, .tiles_x = 1, .in = 1, .out = 1}, {});
  know(layer, layer.truth.front().x);
  EXPECT_FALSE(run_checked(kKnownFirstLayer, layer).front().applicable);
}

}  // namespace attack_25_known_first_layer_test
}  // namespace tempo::audit
