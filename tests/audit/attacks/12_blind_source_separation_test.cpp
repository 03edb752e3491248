// Separation wins where few rows are mixed and samples are many, and loses where rows are mixed deeply.
#include <gtest/gtest.h>

#include <cmath>

#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/pooling.h"
#include "audit/dense_key.h"
#include "audit/synthetic_case.h"
#include "base/csprng.h"
#include "obfuscation/protection.h"

namespace tempo::audit {
namespace attack_12_blind_source_separation_test {

using obfuscation::Form;
using testing::SyntheticOptions;

constexpr size_t kOneStep = 0, kOneKey = 1, kLinked = 2, kRows = 3;

struct VictimOptions {
  int64_t rows = 48, side = 20, channels = 8, out = 10;
  int steps = 1, steps_per_key = 1, row_rounds = 1;
  double zeros = 0.8;
  /// Rows have spatial spectra of their own, as whole images have.
  bool is_smooth = false;
};

Operand plain_activations(const VictimOptions& o, Random& random) {
  std::uniform_real_distribution<double> uniform;
  Operand x(o.rows, o.side, o.side, o.channels);
  for (float& v : x.values) v = uniform(random) < o.zeros ? 0.0F : static_cast<float>(-std::log(1 - uniform(random)));
  if (!o.is_smooth) return x;
  for (int64_t r = 0; r < o.rows; ++r) {
    const double along = 0.5 * uniform(random), down = 0.5 * uniform(random);
    for (int64_t p = 0; p < x.positions(); ++p)
      for (int64_t c = 0; c < o.channels; ++c) {
        if (p % o.side > 0) x.at(r, p, c) += static_cast<float>(along) * x.at(r, p - 1, c);
        if (p >= o.side) x.at(r, p, c) += static_cast<float>(down) * x.at(r, p - o.side, c);
      }
  }
  return x;
}

/// Only what attack 12 reads: cheaper than `synthetic_case`, so that tiles can be large.
LayerCase victim(const VictimOptions& o, Random& random) {
  Csprng stream(derive_key(key_from_seed_insecure(12), "audit-test"));
  BlindingOptions blinding;
  blinding.row_rounds = o.row_rounds;
  const auto scheme = obfuscation::make_protection(blinding);
  Operand w(o.out, 3, 3, o.channels);
  std::normal_distribution<float> normal;
  for (float& v : w.values) v = normal(random);
  LayerCase layer;
  Matrix inner, right;
  for (int step = 0; step < o.steps; ++step) {
    if (step % o.steps_per_key == 0) {
      inner = dense_key(scheme->channel_key(stream, static_cast<uint32_t>(o.channels)), Form::kDirect);
      right = dense_key(scheme->channel_key(stream, static_cast<uint32_t>(o.out)), Form::kDirect);
    }
    const auto left_key = scheme->row_key(stream, static_cast<uint32_t>(o.rows));
    const Matrix left = dense_key(left_key, Form::kDirect).transpose();
    const Operand x = plain_activations(o, random);
    StepView view;
    view.x = transform(left, x, inner);
    view.w = transform(right.transpose(), w, inner);
    StepTruth truth;
    truth.inner = inner;
    truth.right = right;
    truth.rows_mixed = effective_rows_mixed(left_key);
    if (step == 0) {
      truth.x = x;
      truth.w = w;
      Operand y(o.rows, o.side, o.side, o.out);  // sparse, so that R can be found; no convolution
      for (float& v : y.values) v = random() % 10 == 0 ? normal(random) : 0.0F;
      view.y = transform({}, y, right);
    }
    layer.view.push_back(std::move(view));
    layer.truth.push_back(std::move(truth));
    for (float& v : w.values) v += 1e-4F * normal(random);
  }
  return layer;
}

void expect_in_range(const std::vector<Finding>& findings) {
  ASSERT_EQ(findings.size(), 5U);
  for (const Finding& f : findings) {
    EXPECT_EQ(f.attack, 12);
    for (const double value : {f.score, f.chance, f.noise}) {
      EXPECT_GE(value, 0) << f.target;
      EXPECT_LE(value, 1 + 1e-9) << f.target;
    }
  }
}

TEST(BlindSourceSeparation, OneStepUndoesShallowMixing) {
  Random random(1);
  const LayerCase layer = victim({}, random);
  const auto findings = kBlindSourceSeparation.run(layer, random);
  expect_in_range(findings);
  EXPECT_GT(findings[kOneStep].score, 0.95);
  EXPECT_TRUE(findings[kOneStep].beats_chance());
  EXPECT_EQ(findings[kOneKey].steps_to_win, 1.0);
  EXPECT_GT(absolute_cosine(findings[kOneKey].recovered_weight, layer.truth.front().w), 0.9);
  EXPECT_FALSE(findings[kLinked].applicable);
}

TEST(BlindSourceSeparation, PoolingStepsOfOneKeySucceedsWhereOneStepFails) {
  Random random(2);
  const LayerCase layer = victim({.side = 4, .steps = 32, .steps_per_key = 32, .zeros = 0.6}, random);
  const auto findings = kBlindSourceSeparation.run(layer, random);
  EXPECT_LT(findings[kOneStep].score, 0.9);
  EXPECT_GT(findings[kOneKey].score, 0.95);
  EXPECT_GT(findings[kOneKey].steps_to_win.value_or(0), 1);
  EXPECT_FALSE(findings[kLinked].applicable);  // nothing to link

  const PoolingPoints points = pool_channel_directions(layer, random);
  EXPECT_EQ(points.steps, (std::vector<double>{1, 2, 4, 8, 16, 32}));
  EXPECT_LT(points.score.front(), 0.9);
  EXPECT_GT(points.score.back(), 0.95);
  EXPECT_LT(points.chance, 0.85);
}

TEST(BlindSourceSeparation, NewKeysDoNotHelpWhereWeightsCanBeLinked) {
  Random random(3);
  const LayerCase layer = victim({.side = 5, .steps = 32, .steps_per_key = 8, .zeros = 0.6}, random);
  const auto findings = kBlindSourceSeparation.run(layer, random);
  EXPECT_TRUE(findings[kLinked].applicable);
  EXPECT_GT(findings[kLinked].score, 0.9);
}

TEST(BlindSourceSeparation, DeepMixingHidesChannelDirections) {
  Random random(4);
  const LayerCase layer = victim({.rows = 2048, .side = 3, .channels = 16, .row_rounds = 0, .zeros = 0.5}, random);
  const auto findings = kBlindSourceSeparation.run(layer, random);
  expect_in_range(findings);
  for (const size_t i : {kOneStep, kOneKey, kRows}) {
    EXPECT_LT(findings[i].score, findings[i].chance + 3 * findings[i].noise + 0.01) << findings[i].target;
    EXPECT_FALSE(findings[i].beats_chance()) << findings[i].target;
  }
  EXPECT_GT(findings[kOneKey].steps_to_win.value_or(0), 10);
  EXPECT_TRUE(findings[kOneKey].recovered_weight.empty());
}

TEST(BlindSourceSeparation, ChannelDirectionsUnderPermutedKeysDoNotBeatChance) {
  const LayerCase layer =
      testing::synthetic_case({}, {.protection = "permuted", .weights = WeightPlacement::kReturned});
  Random random(5);
  const auto findings = kBlindSourceSeparation.run(layer, random);
  EXPECT_NEAR(findings[kOneStep].chance, 1, 1e-6);
  EXPECT_FALSE(findings[kOneStep].beats_chance());
  EXPECT_GT(findings[kRows].score, 0.9);  // nothing mixes rows
}

TEST(BlindSourceSeparation, SpatialStatisticsSeparateWholeImages) {
  Random random(6);
  const LayerCase layer = victim({.rows = 16, .side = 32, .is_smooth = true}, random);
  const Finding rows = kBlindSourceSeparation.run(layer, random)[kRows];
  EXPECT_GT(rows.score, 0.9);
  EXPECT_LT(rows.chance, 0.7);
}

/// A factor of three at most between the model's number of samples and the number that passes 0.9, looked for in
/// steps of 1.5.
TEST(BlindSourceSeparation, TheModelPredictsTheNumberOfSamplesWithinAFactorOfThree) {
  Random random(7);
  std::uniform_real_distribution<double> uniform;
  struct Setting {
    int64_t channels;
    int mixed;
    double zeros;
  };
  for (const Setting& s : {Setting{8, 8, 0}, {16, 4, 0}, {16, 32, 0.8}, {32, 24, 0.8}}) {
    const auto mixture = [&](int64_t n, int mixed) {
      return Matrix(Matrix::NullaryExpr(n, s.channels, [&] {
        double sum = 0;
        for (int k = 0; k < mixed; ++k)
          if (uniform(random) >= s.zeros) sum += (uniform(random) < 0.5 ? 1 : -1) * std::log(1 - uniform(random));
        return sum;
      }));
    };
    const double predicted = samples_to_win(s.channels, s.mixed, excess_kurtosis(mixture(20000, 1)));
    const Matrix directions = random_orthogonal(s.channels, random);
    double needed = predicted / 4;
    for (double score = 0; needed < 6 * predicted; needed *= 1.5) {
      const Matrix samples = mixture(static_cast<int64_t>(needed), s.mixed) * directions;
      score = match_directions(channel_directions(samples, random), directions).median_cosine;
      if (score >= 0.9) break;
    }
    EXPECT_GT(needed, predicted / 3) << s.channels << " " << s.mixed;
    EXPECT_LT(needed, predicted * 3) << s.channels << " " << s.mixed;
  }
}

TEST(BlindSourceSeparation, TinyAndZeroOperandsDoNotCrashTheAttack) {
  Random random(8);
  for (const SyntheticOptions& o :
       {SyntheticOptions{.in = 1, .out = 1},
        {.images = 1, .tiles_y = 1, .tiles_x = 1},
        {.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .in = 1, .out = 1, .steps = 2},
        {.tile = 1, .kernel = 1, .in = 3, .steps = 2},
        {.images = 2, .steps = 2, .zeros = 1}}) {
    LayerCase layer = testing::synthetic_case(o, {});
    for (size_t t = 1; t < layer.view.size(); ++t) layer.truth[t].x = Operand();
    expect_in_range(kBlindSourceSeparation.run(layer, random));
    pool_channel_directions(layer, random);
    for (StepView& view : layer.view) view.x = Operand();
    expect_in_range(kBlindSourceSeparation.run(layer, random));
  }
}

}  // namespace attack_12_blind_source_separation_test
}  // namespace tempo::audit
