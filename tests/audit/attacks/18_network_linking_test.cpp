#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/small_network.h"

namespace tempo::audit {
namespace attack_18_network_linking_test {

using testing::finding_of;
using testing::kInteger;
using testing::kRotated;
using testing::kSigned;
using testing::run_checked;
using testing::SmallNetwork;

TEST(NetworkLinking, LinksLayersAndShortcutsThatAreMovedAndScaled) {
  for (const BlindingOptions& blinding : {kSigned, kInteger})
    for (const int64_t tile : {1, 4, 0}) {
      SCOPED_TRACE(tile);
      SmallNetwork network({.tile = tile}, blinding);
      for (size_t i = 0; i < 2; ++i) {
        const auto findings = run_checked(kNetworkLinking, network.layer(i));
        EXPECT_GE(finding_of(findings, "channels linked").score, 0.95) << i;
        EXPECT_GE(finding_of(findings, "computed").score, 0.99) << i;
        EXPECT_LE(finding_of(findings, "computed").chance, 0.7) << i;
        EXPECT_EQ(finding_of(findings, "shortcut").applicable, i == 1);
        if (i == 1) {
          EXPECT_GE(finding_of(findings, "shortcut").score, 0.95);
        }
      }
    }
}

TEST(NetworkLinking, IsAtChanceWhereRowsAreMixed) {
  for (const int64_t tile : {1, 4, 0}) {
    SmallNetwork network({.tile = tile}, kRotated);
    for (size_t i = 0; i < 2; ++i)
      for (const Finding& f : run_checked(kNetworkLinking, network.layer(i))) {
        EXPECT_EQ(f.applicable, i == 1 || f.target.find("shortcut") == std::string::npos) << f.target;
        EXPECT_FALSE(f.beats_chance()) << f.target << " tile " << tile << ": " << f.score;
      }
  }
}

TEST(NetworkLinking, TheAttackIsNotApplicableWithoutNeighbouringLayers) {
  SmallNetwork network({.tile = 4}, kSigned);
  EXPECT_FALSE(finding_of(run_checked(kNetworkLinking, network.layer(2)), "linked").applicable);  // no next layer
  network.layer(1).previous = nullptr;
  EXPECT_FALSE(finding_of(run_checked(kNetworkLinking, network.layer(1)), "linked").applicable);
  LayerCase empty;
  empty.view.resize(1);
  empty.truth.resize(1);
  network.layer(0).next = &empty;
  EXPECT_FALSE(finding_of(run_checked(kNetworkLinking, network.layer(0)), "linked").applicable);
  EXPECT_FALSE(finding_of(run_checked(kNetworkLinking, empty), "linked").applicable);
}

}  // namespace attack_18_network_linking_test
}  // namespace tempo::audit
