// A search over keys of the built-in structure finds M where gradients are sparse, and not where they are normal.
#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/gradient_case.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_21_key_search_test {

using testing::gradient_case;
using testing::run_checked;

TEST(KeySearch, SparseGradientsGiveTheKeyAway) {
  const LayerCase layer = gradient_case({.steps = 40, .zeros = 0.9, .before_norm = true});
  const Finding finding = run_checked(kKeySearch, layer).front();
  EXPECT_GT(finding.score, 0.999);
  EXPECT_TRUE(finding.beats_chance()) << finding.chance << " " << finding.noise;
}

TEST(KeySearch, NormalGradientsDoNot) {
  const LayerCase layer = gradient_case({.steps = 20, .before_norm = true});
  const Finding finding = run_checked(kKeySearch, layer).front();
  EXPECT_TRUE(finding.applicable);
  EXPECT_FALSE(finding.beats_chance());
}

TEST(KeySearch, MissingTinyAndLargeOperandsAreHandled) {
  for (const Finding& f : run_checked(kKeySearch, LayerCase{})) EXPECT_FALSE(f.applicable);
  for (const testing::SyntheticOptions& o : {testing::SyntheticOptions{.in = 1, .out = 1},
                                             {.images = 1, .tiles_y = 1, .tiles_x = 1, .tile = 1, .kernel = 1},
                                             {.images = 2, .in = 3, .out = 2, .steps = 2, .zeros = 1}})
    run_checked(kKeySearch, testing::synthetic_case(o, {.protection = "rotated"}));
  EXPECT_FALSE(run_checked(kKeySearch, gradient_case({.in = 80, .out = 2, .steps = 2})).front().applicable);
}

}  // namespace attack_21_key_search_test
}  // namespace tempo::audit
