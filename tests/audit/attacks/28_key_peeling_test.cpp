// White operands give a key away that mixes scaled values by Hadamard blocks last; keys without scales stay.
#include <gtest/gtest.h>

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

/// One step of which only products are there: M^T C M, C white but for `spread`.
LayerCase products_case(const char* protection, int64_t size, double spread) {
  Csprng stream(derive_key(key_from_seed_insecure(2), "audit-test"));
  const auto scheme = obfuscation::make_protection({.protection = protection});
  LayerCase layer;
  StepView view;
  StepTruth truth;
  truth.inner = dense_key(scheme->channel_key(stream, static_cast<uint32_t>(size)), obfuscation::Form::kDirect);
  const Vector covariance = Vector::LinSpaced(size, 1, 1 + spread);
  view.x_products = truth.inner.transpose() * covariance.asDiagonal() * truth.inner;
  layer.view.push_back(view);
  layer.truth.push_back(truth);
  return layer;
}

TEST(KeyPeeling, WhiteOperandsGiveAnObliqueKeyAway) {
  for (const double spread : {0.0, 0.3}) {
    const Finding found = finding_of(run_checked(kKeyPeeling, products_case("oblique", 144, spread)), "M, peeled");
    EXPECT_GT(found.score, 0.8) << spread;
    EXPECT_TRUE(found.beats_chance());
  }
}

TEST(KeyPeeling, KeysWithoutScalesAreNotPeeled) {
  EXPECT_FALSE(finding_of(run_checked(kKeyPeeling, products_case("rotated", 144, 0.3)), "M, peeled").beats_chance());
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
