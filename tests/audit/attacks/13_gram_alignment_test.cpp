#include <gtest/gtest.h>

#include <cmath>

#include "audit/attacks/attacks.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_13_gram_alignment_test {

constexpr testing::SyntheticOptions kSmall{
    .images = 64, .tiles_y = 2, .tiles_x = 2, .tile = 2, .kernel = 3, .in = 24, .out = 2};

std::vector<Finding> attack(const LayerCase& layer) {
  Random random(1);
  return kGramAlignment.run(layer, random);
}

LayerCase victim(const testing::SyntheticOptions& options, const char* protection, int row_rounds = 0) {
  return testing::synthetic_case(options, {.protection = protection, .row_rounds = row_rounds});
}

TEST(GramAlignment, KnownInputsRevealTheInnerKey) {
  for (const int row_rounds : {1, 3}) {
    const auto findings = attack(victim(kSmall, "rotated", row_rounds));
    ASSERT_EQ(findings.size(), 2U);
    EXPECT_FALSE(findings[0].applicable);  // no activations
    EXPECT_GT(findings[1].score, 0.999);
    EXPECT_LT(findings[1].chance, 0.3);
    EXPECT_TRUE(findings[1].beats_chance());
  }
}

TEST(GramAlignment, SimilarActivationsRevealTheInnerKey) {
  LayerCase layer = victim(kSmall, "rotated");
  layer.knowledge.activations = layer.truth.front().x;
  Random random(4);
  std::normal_distribution<float> normal;
  for (float& v : layer.knowledge.activations.values) v *= 1 + 0.3F * normal(random);
  const Finding known = attack(layer)[0];
  EXPECT_GT(known.score, 0.95);
  EXPECT_TRUE(known.beats_chance());
}

TEST(GramAlignment, UnrelatedActivationsInAnotherOrderScoreAtChance) {
  LayerCase layer = victim(kSmall, "rotated");
  testing::SyntheticOptions other = kSmall;
  other.seed = 77;
  const Operand x = testing::synthetic_case(other, {}).truth.front().x;
  layer.knowledge.activations = x;
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t p = 0; p < x.positions(); ++p)
      for (int64_t c = 0; c < x.channels; ++c) layer.knowledge.activations.at(r, p, c) = x.at(r, p, (c + 7) % 24);
  const Finding known = attack(layer)[0];
  EXPECT_TRUE(known.applicable);
  EXPECT_FALSE(known.beats_chance());
}

TEST(GramAlignment, OverManyRowsScalesAverageOutAndTheKeyLeaks) {
  const Finding leak = attack(victim(kSmall, "permuted"))[1];
  EXPECT_GT(leak.score, 0.7);
  EXPECT_TRUE(leak.beats_chance());
}

TEST(GramAlignment, WithOnePositionTheSignsOfTheKeyStayUnknown) {
  testing::SyntheticOptions options = kSmall;
  options.kernel = options.tile = 1;
  double sum = 0;  // of a few draws of the keys: with signs guessed, each scores by luck
  constexpr int kDraws = 8;
  for (int draw = 0; draw < kDraws; ++draw) {
    options.seed = static_cast<uint64_t>(draw + 1);
    const Finding leak = attack(victim(options, "rotated"))[1];
    EXPECT_TRUE(leak.applicable);
    EXPECT_LT(leak.score, 0.9);
    sum += leak.score;
  }
  EXPECT_LT(sum / kDraws, 0.7);
  options.seed = kSmall.seed;
  const Finding permuted = attack(victim(options, "permuted"))[1];
  EXPECT_TRUE(permuted.applicable);
  EXPECT_FALSE(permuted.beats_chance());
}

TEST(GramAlignment, MissingZeroAndTinyOperandsAreHandled) {
  for (const Finding& f : attack(LayerCase{})) EXPECT_FALSE(f.applicable);
  LayerCase layer = victim(kSmall, "rotated");
  for (float& v : layer.view.front().x.values) v = 0;
  for (const Finding& f : attack(layer)) EXPECT_FALSE(f.applicable);
  testing::SyntheticOptions tiny = kSmall;
  tiny.images = tiny.tiles_x = tiny.tiles_y = tiny.in = tiny.out = tiny.kernel = tiny.tile = 1;
  tiny.zeros = 0;
  EXPECT_EQ(attack(victim(tiny, "rotated"))[1].score, 1);
}

}  // namespace attack_13_gram_alignment_test
}  // namespace tempo::audit
