#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/small_network.h"

namespace tempo::audit {
namespace attack_19_first_layer_test {

using testing::finding_of;
using testing::kRotated;
using testing::kSigned;
using testing::run_checked;
using testing::SmallNetwork;

TEST(FirstLayer, RecoversPicturesAndKernelsWhereRowsAreMovedAndScaled) {
  for (const int64_t tile : {1, 4, 0}) {
    SCOPED_TRACE(tile);
    SmallNetwork network({.images = 12, .tile = tile}, kSigned);
    const auto findings = run_checked(kFirstLayer, network.layer(0));
    EXPECT_GE(finding_of(findings, "images, colours known").score, 0.95);
    EXPECT_TRUE(finding_of(findings, "images, colours known").given_truth);
    EXPECT_GE(finding_of(findings, "kernels").score, 0.99);
    EXPECT_FALSE(finding_of(findings, "colours matched").given_truth);
  }
}

TEST(FirstLayer, RecoversNothingWhereRowsAreMixed) {
  for (const int64_t tile : {1, 4, 0}) {
    SmallNetwork network({.images = 12, .tile = tile}, kRotated);
    for (const Finding& f : run_checked(kFirstLayer, network.layer(0))) {
      EXPECT_TRUE(f.applicable) << f.target;
      EXPECT_FALSE(f.beats_chance()) << f.target << ": " << f.score << " " << f.note;
    }
  }
}

TEST(FirstLayer, TheAttackIsNotApplicableToLaterLayersOrWithoutImages) {
  SmallNetwork network({.tile = 4}, kSigned);
  EXPECT_FALSE(finding_of(run_checked(kFirstLayer, network.layer(1)), "kernels").applicable);
  network.layer(0).knowledge.images = {};
  EXPECT_FALSE(finding_of(run_checked(kFirstLayer, network.layer(0)), "kernels").applicable);
}

TEST(StolenNetwork, LinksTheWholeNetworkWhereRowsAreMovedAndScaled) {
  SmallNetwork network({.tile = 4}, kSigned);
  const auto findings = run_checked(kStolenNetwork, network.layer(0));
  EXPECT_GE(findings.front().score, 0.95);
  EXPECT_FALSE(run_checked(kStolenNetwork, network.layer(1)).front().applicable);
}

TEST(StolenNetwork, LinksNothingWhereRowsAreMixed) {
  SmallNetwork network({.tile = 4}, kRotated);
  const auto findings = run_checked(kStolenNetwork, network.layer(0));
  EXPECT_TRUE(findings.front().applicable);
  EXPECT_FALSE(findings.front().beats_chance());
}

}  // namespace attack_19_first_layer_test
}  // namespace tempo::audit
