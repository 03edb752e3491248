#include <gtest/gtest.h>

#include <cstring>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/small_network.h"

namespace tempo::audit {
namespace attack_17_image_layout_test {

using testing::finding_of;
using testing::kInteger;
using testing::kRotated;
using testing::kSigned;
using testing::run_checked;
using testing::SmallNetwork;

TEST(ImageLayout, PutsTilesThatAreMovedAndScaledIntoTheirPlaces) {
  for (const BlindingOptions& blinding : {kSigned, kInteger})
    for (const int64_t tile : {1, 4}) {
      SCOPED_TRACE(tile);
      SmallNetwork network({.tile = tile}, blinding);
      for (size_t i = 0; i < 3; ++i) {
        const auto findings = run_checked(kImageLayout, network.layer(i));
        EXPECT_GE(finding_of(findings, "places").score, 0.95) << i;
        EXPECT_GE(finding_of(findings, "scales").score, 0.95) << i;
        EXPECT_LE(finding_of(findings, "places").chance, 0.1) << i;
      }
    }
}

TEST(ImageLayout, WorksOnOperandsRoundedToBfloat16) {
  SmallNetwork network({.tile = 1}, kSigned);
  Operand& x = network.layer(1).view.front().x;
  for (float& v : x.values) {
    uint32_t bits = 0;
    std::memcpy(&bits, &v, sizeof bits);
    bits = (bits + 0x8000) & 0xffff0000;
    std::memcpy(&v, &bits, sizeof bits);
  }
  const auto findings = run_checked(kImageLayout, network.layer(1));
  EXPECT_GE(finding_of(findings, "places").score, 0.9);
  EXPECT_GE(finding_of(findings, "scales").score, 0.5);
}

TEST(ImageLayout, FindsNoPlaceWhereRowsAreMixed) {
  for (const int64_t tile : {1, 4}) {
    SmallNetwork network({.tile = tile}, kRotated);
    for (size_t i = 0; i < 3; ++i)
      for (const Finding& f : run_checked(kImageLayout, network.layer(i))) {
        EXPECT_TRUE(f.applicable);
        EXPECT_FALSE(f.beats_chance()) << f.target << ": " << f.score;
      }
  }
}

TEST(ImageLayout, TheAttackIsNotApplicableToWholeImagesEmptyAndZeroOperands) {
  SmallNetwork whole({.tile = 0}, kSigned);
  EXPECT_FALSE(finding_of(run_checked(kImageLayout, whole.layer(0)), "places").applicable);
  LayerCase empty;
  empty.view.resize(1);
  empty.truth.resize(1);
  EXPECT_FALSE(finding_of(run_checked(kImageLayout, empty), "places").applicable);
  SmallNetwork zeros({.tile = 1}, kSigned);
  std::fill(zeros.layer(0).view[0].x.values.begin(), zeros.layer(0).view[0].x.values.end(), 0.0F);
  EXPECT_EQ(finding_of(run_checked(kImageLayout, zeros.layer(0)), "places").score, 0);
}

}  // namespace attack_17_image_layout_test
}  // namespace tempo::audit
