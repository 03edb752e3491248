#include "audit/report/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "audit/report/sample_results.h"

namespace tempo::audit {
namespace verdict_test {

using ::testing::Contains;
using testing::default_finding;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kDefaultName;
using testing::make_leak;
using testing::sample_attacks;
using testing::sample_results;
using ::testing::StartsWith;

TEST(Verdict, WithoutALeakTheVerdictIsAtChance) {
  const Verdict said = verdict(sample_results(), sample_attacks());
  EXPECT_EQ(said.kind, Verdict::Kind::kAtChance);
  EXPECT_EQ(said.headline,
            "At chance: under the default setting \"rotated resident tile 4\" none of the 14 attacks that gave a score "
            "beats guessing, and a surrogate model gains at most +1.0 points of accuracy over black box (up to 2 count "
            "as none).");
  EXPECT_THAT(said.reasons, IsEmpty());
  EXPECT_THAT(said.remarks, Contains(HasSubstr("nothing to work on under this setting: 8.")));
  EXPECT_THAT(said.remarks, Contains(HasSubstr("Where they are public, 1 of the 14 attacks that gave a score beats")));
  EXPECT_THAT(said.remarks, Contains(HasSubstr("After about 1.0e+06 training steps under one key attack 12")));
}

TEST(Verdict, AttackAboveChanceIsNamedFirst) {
  AuditResults results = sample_results();
  make_leak(default_finding(results, 5), 0.31);
  make_leak(default_finding(results, 12), 0.75);
  const Verdict said = verdict(results, sample_attacks());
  EXPECT_EQ(said.kind, Verdict::Kind::kNotAtChance);
  EXPECT_THAT(said.headline, StartsWith("NOT at chance: under the default setting \"rotated resident tile 4\" 2 of the "
                                        "14 attacks that gave a score beat guessing; a surrogate model gains nothing"));
  EXPECT_THAT(
      said.reasons,
      ElementsAre("Attack 12 (blind source separation) on layer1.conv1, directions of input channels: 0.75 where "
                  "guessing gets 0.06 (+0.69; share of channels matched)",
                  HasSubstr("Attack 5 (Procrustes)")));
}

TEST(Verdict, ASurrogateThatGainsAccuracyIsEnoughForALeak) {
  AuditResults results = sample_results();
  for (SurrogateResult& surrogate : results.surrogates)
    if (surrogate.start_from == kDefaultName && surrogate.budget == "500 queries") surrogate.accuracy += 0.04;
  const Verdict said = verdict(results, sample_attacks());
  EXPECT_EQ(said.kind, Verdict::Kind::kNotAtChance);
  EXPECT_THAT(said.headline, HasSubstr("no attack beats guessing by itself, but a surrogate model built from what they "
                                       "recover gains +5.0 points of accuracy over black box."));
  EXPECT_THAT(said.reasons, ElementsAre(HasSubstr("500 queries")));
}

TEST(Verdict, AGainOfExactlyTwoPointsIsNoLeak) {
  AuditResults results = sample_results();
  for (SurrogateResult& surrogate : results.surrogates)
    if (surrogate.start_from == kDefaultName) surrogate.accuracy += 0.01;
  EXPECT_EQ(verdict(results, sample_attacks()).kind, Verdict::Kind::kAtChance);
}

TEST(Verdict, LeaksOfOtherStartsLayersAndSettingsDoNotCount) {
  AuditResults results = sample_results();
  for (FindingResult& finding : results.findings)
    if (finding.setting != kDefaultName || finding.start == "public" || finding.counterfactual) make_leak(finding, 1);
  EXPECT_EQ(verdict(results, sample_attacks()).kind, Verdict::Kind::kAtChance);
}

TEST(Verdict, ALeakInOneLayerIsEnough) {
  AuditResults results = sample_results();
  // A larger advantage that may be luck on another layer does not hide a small one that is not.
  default_finding(results, 3).noise = 1;
  default_finding(results, 3).score = 0.9;
  FindingResult small = default_finding(results, 3);
  small.layer = "layer3.conv3";
  make_leak(small, 0.2);
  results.findings.push_back(small);
  const Verdict said = verdict(results, sample_attacks());
  EXPECT_EQ(said.kind, Verdict::Kind::kNotAtChance);
  EXPECT_THAT(said.reasons, ElementsAre(HasSubstr("layer3.conv3")));
}

TEST(Verdict, NewKeysAreNotAdvisedIfKeysCanBeLinked) {
  AuditResults results = sample_results();
  default_finding(results, 3).steps_to_win = 50;
  EXPECT_THAT(verdict(results, sample_attacks()).remarks, Contains(HasSubstr("Keys have to be changed well before")));
  FindingResult linked = default_finding(results, 3);
  linked.attack = 11;
  make_leak(linked, 0.5);
  results.findings.push_back(linked);
  EXPECT_THAT(verdict(results, sample_attacks()).remarks, Contains(HasSubstr("New keys do not prevent it")));
}

TEST(Verdict, TheVerdictNamesMissingParts) {
  AuditResults results = sample_results();
  std::erase_if(results.findings, [](const FindingResult& finding) { return finding.attack == 7; });
  Verdict said = verdict(results, sample_attacks());
  EXPECT_EQ(said.kind, Verdict::Kind::kIncomplete);
  EXPECT_THAT(said.headline, StartsWith("At chance as far as measured:"));
  EXPECT_THAT(said.remarks, Contains("Not run under this setting: 7 zero pattern."));

  results = sample_results();
  results.surrogates.clear();
  said = verdict(results, sample_attacks());
  EXPECT_EQ(said.kind, Verdict::Kind::kIncomplete);
  EXPECT_THAT(said.headline, HasSubstr("no surrogate model was measured"));
}

TEST(Verdict, WithoutMeasurementsThereIsNoVerdict) {
  EXPECT_EQ(verdict({}, {}).headline, "No verdict: no setting is marked as the default.");
  AuditResults results;
  results.settings = testing::sample_settings();
  EXPECT_THAT(verdict(results, sample_attacks()).headline, StartsWith("No verdict: no attack gave a score"));
}

}  // namespace verdict_test
}  // namespace tempo::audit
