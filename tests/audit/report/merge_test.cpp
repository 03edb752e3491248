#include "audit/report/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::audit {
namespace merge_test {

AuditResults with_setting(const std::string& name) {
  AuditResults results;
  results.command = "run " + name;
  results.victim.model = "resnet20";
  results.settings.push_back({.name = name});
  results.findings.push_back({.setting = name, .attack = 3});
  results.surrogates.push_back({.start_from = "black box", .accuracy = 0.3});
  results.tampering.push_back({.relative_error = 0.1});
  return results;
}

TEST(Merge, SettingsAreJoinedAndBoundsKeptOnce) {
  AuditResults all = with_setting("a");
  append(all, with_setting("b"), "b.json");
  EXPECT_EQ(all.settings.size(), 2U);
  EXPECT_EQ(all.findings.size(), 2U);
  EXPECT_EQ(all.surrogates.size(), 1U);
  EXPECT_EQ(all.tampering.size(), 1U);
  EXPECT_EQ(all.command, "run a ; run b");
}

TEST(Merge, ASettingThatComesTwiceIsRefused) {
  AuditResults all = with_setting("a");
  EXPECT_THAT(tempo::testing::message_of<InputError>([&] { append(all, with_setting("a"), "b.json"); }),
              ::testing::HasSubstr("b.json: has the setting \"a\" again"));
}

TEST(Merge, ResultsOfAnotherVictimAreRefused) {
  AuditResults all = with_setting("a"), other = with_setting("b");
  other.victim.model = "vit_tiny";
  EXPECT_THAT(tempo::testing::message_of<InputError>([&] { append(all, std::move(other), "b.json"); }),
              ::testing::HasSubstr("audits vit_tiny"));
}

}  // namespace merge_test
}  // namespace tempo::audit
