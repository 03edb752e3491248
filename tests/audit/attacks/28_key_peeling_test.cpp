// White operands give a key away that scales values before every round of Hadamard blocks. Keys without scales stay,
// and so do oblique ones, whose scales lie between rounds of signs.
#include <gtest/gtest.h>

#include <cmath>

#include "audit/attacks/attacks.h"
#include "audit/dense_key.h"
#include "audit/finding_of.h"
#include "audit/synthetic_case.h"
#include "base/csprng.h"
#include "obfuscation/protection.h"

namespace tempo::audit {
namespace attack_28_key_peeling_test {

using testing::finding_of;
using testing::run_checked;

obfuscation::Key key_of(const char* protection, uint32_t size) {
  Csprng stream(derive_key(key_from_seed_insecure(2), "audit-test"));
  return obfuscation::make_protection({.protection = protection})->channel_key(stream, size);
}

/// Three rounds with scales, of which two mix.
obfuscation::Key scaled_throughout(uint32_t size) {
  Csprng stream(derive_key(key_from_seed_insecure(2), "audit-test"));
  obfuscation::Key key{.size = size, .rounds = {}, .orthogonal = false};
  for (const uint32_t block : {16U, 16U, 1U}) {
    obfuscation::KeyRound round{.source = stream.permutation(size), .scale = std::vector<float>(size), .block = block};
    for (float& scale : round.scale)
      scale = static_cast<float>(std::exp2(2 * stream.uniform() - 1)) * (stream.coin() ? 1.0F : -1.0F);
    key.rounds.push_back(std::move(round));
  }
  return key;
}

/// One step of which only products are there: M^T C M, C white but for `spread`.
LayerCase products_case(const obfuscation::Key& key, double spread) {
  const int64_t size = key.size;
  LayerCase layer;
  StepView view;
  StepTruth truth;
  truth.inner = dense_key(key, obfuscation::Form::kDirect);
  const Vector covariance = Vector::LinSpaced(size, 1, 1 + spread);
  view.x_products = truth.inner.transpose() * covariance.asDiagonal() * truth.inner;
  layer.view.push_back(view);
  layer.truth.push_back(truth);
  return layer;
}

TEST(KeyPeeling, WhiteOperandsGiveAKeyAwayThatHasScalesInEveryRound) {
  for (const double spread : {0.0, 0.3}) {
    const Finding found =
        finding_of(run_checked(kKeyPeeling, products_case(scaled_throughout(144), spread)), "M, peeled");
    EXPECT_GT(found.score, 0.8) << spread;
    EXPECT_TRUE(found.beats_chance());
  }
}

TEST(KeyPeeling, KeysWithoutScalesAndObliqueKeysAreNotPeeled) {
  for (const char* protection : {"rotated", "oblique"})
    for (const double spread : {0.0, 0.3})
      EXPECT_FALSE(finding_of(run_checked(kKeyPeeling, products_case(key_of(protection, 144), spread)), "M, peeled")
                       .beats_chance())
          << protection << " " << spread;
}

TEST(KeyPeeling, MissingAndTinyOperandsAreHandled) {
  for (const Finding& f : run_checked(kKeyPeeling, LayerCase{})) EXPECT_FALSE(f.applicable);
  for (const testing::SyntheticOptions& o :
       {testing::SyntheticOptions{.in = 1, .out = 1},
        {.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1, .in = 16},
        {.images = 64, .tile = 1, .kernel = 1, .in = 32, .out = 2}})
    for (const char* protection : {"rotated", "oblique"})
      run_checked(kKeyPeeling, testing::synthetic_case(o, {.protection = protection}));
}

}  // namespace attack_28_key_peeling_test
}  // namespace tempo::audit
