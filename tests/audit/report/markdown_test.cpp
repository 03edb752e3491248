#include "audit/report/markdown.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <sstream>

#include "audit/report/sample_results.h"

namespace tempo::audit {
namespace markdown_test {

using testing::default_finding;
using ::testing::HasSubstr;
using testing::make_leak;
using ::testing::Not;
using testing::sample_attacks;
using testing::sample_results;
using ::testing::StartsWith;

/// Cells of the lines of the table under a heading; an escaped bar does not part cells.
std::vector<std::vector<std::string>> rows_under(const std::string& markdown, const std::string& heading) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(markdown.substr(std::min(markdown.size(), markdown.find("## " + heading))));
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line) && !line.starts_with("## ")) {
    if (!line.starts_with("|")) continue;
    std::vector<std::string>& cells = rows.emplace_back();
    std::string cell;
    for (size_t i = 1; i < line.size(); ++i) {
      if (line[i] == '|' && line[i - 1] != '\\') {
        cells.push_back(cell);
        cell.clear();
      } else {
        cell += line[i];
      }
    }
  }
  return rows;
}

TEST(Markdown, TheVerdictComesFirst) {
  AuditResults results = sample_results();
  EXPECT_THAT(to_markdown(results, sample_attacks()), StartsWith("**At chance: "));
  make_leak(default_finding(results, 5), 0.31);
  EXPECT_THAT(to_markdown(results, sample_attacks()), StartsWith("**NOT at chance: "));
}

TEST(Markdown, TheReportHasACellForEveryMeasurement) {
  const std::string markdown = to_markdown(sample_results(), sample_attacks());
  for (const char* heading :
       {"Attacks where the initial weights are secret", "Attacks where the initial weights are public"}) {
    SCOPED_TRACE(heading);
    const auto rows = rows_under(markdown, heading);
    ASSERT_EQ(rows.size(), 2 + 15U);
    for (const auto& row : rows) {
      ASSERT_EQ(row.size(), 3 + 8U);
      for (const std::string& cell : row) EXPECT_NE(cell.find_first_not_of(' '), std::string::npos);
    }
    EXPECT_EQ(rows[2][3], " **1.00 (0.04)** ");  // unprotected
    EXPECT_EQ(rows[2 + 7][3 + 5], " n/a ");      // attack 8
  }
  EXPECT_EQ(rows_under(markdown, "Layers that Tempo never offloads").size(), 2 + 1U);
  EXPECT_EQ(rows_under(markdown, "Training steps under one key").size(), 2 + 8U);
  EXPECT_EQ(rows_under(markdown, "Surrogate models").size(), 2 + 30U);
  EXPECT_EQ(rows_under(markdown, "Information").size(), 2 + 24U);
  EXPECT_EQ(rows_under(markdown, "Tampering").size(), 2 + 5U);
  EXPECT_THAT(markdown, HasSubstr("for reporting only, not a pass mark"));
  EXPECT_THAT(markdown, HasSubstr("| rotated resident tile 4 (default) |"));
}

TEST(Markdown, ACellShowsTheWorstLayer) {
  AuditResults results = sample_results();
  FindingResult worst = default_finding(results, 5);
  worst.layer = "layer2.conv2";
  make_leak(worst, 0.77);
  results.findings.push_back(worst);
  FindingResult idle = worst;
  idle.applicable = false;
  idle.beats_chance = false;
  results.findings.push_back(idle);
  const auto rows = rows_under(to_markdown(results, sample_attacks()), "Attacks where the initial weights are secret");
  EXPECT_EQ(rows[2 + 4][3 + 5], " **0.77 (0.02)** ");
}

TEST(Markdown, TheReportNamesAttacksThatWereNotRun) {
  AuditResults results = sample_results();
  std::erase_if(results.findings, [](const FindingResult& finding) {
    return finding.attack == 7 || (finding.attack == 6 && finding.start == "public") || finding.layer == "layer3.conv3";
  });
  FindingResult stray = results.findings.front();
  stray.setting = "a setting without an entry";
  results.findings.push_back(stray);
  const std::string markdown = to_markdown(results, sample_attacks());
  const auto secret = rows_under(markdown, "Attacks where the initial weights are secret");
  ASSERT_EQ(secret[2].size(), 3 + 9U);
  EXPECT_EQ(secret[0].back(), " a setting without an entry ");
  EXPECT_EQ(secret[2].back(), " **1.00 (0.04)** ");
  EXPECT_THAT(markdown, HasSubstr("Not run: 7 ")) << "attack 7 was run nowhere";
  EXPECT_EQ(rows_under(markdown, "Attacks where the initial weights are public")[2 + 5][3], " not run ");
  EXPECT_EQ(rows_under(markdown, "Training steps under one key")[2][3], " not run ");
}

TEST(Markdown, EmptyResultsStillMakeAReport) {
  const std::string markdown = to_markdown({}, {});
  EXPECT_THAT(markdown, StartsWith("**No verdict: "));
  EXPECT_THAT(markdown, HasSubstr("Not run."));
}

TEST(Markdown, NamesCannotBreakTables) {
  AuditResults results = sample_results();
  results.settings[1].name = "a|b\n<b>*c*";
  results.settings[1].flags = "--x `|`";
  const std::string markdown = to_markdown(results, {});
  EXPECT_THAT(markdown, HasSubstr("| a\\|b &lt;b>\\*c\\* | `--x '\\|'` |"));
  EXPECT_THAT(markdown, HasSubstr("| 12 | attack 12 |"));
  EXPECT_THAT(markdown, Not(HasSubstr("<b>")));
}

TEST(Markdown, NumbersThatAreNotFiniteAreWrittenWithoutACrash) {
  AuditResults results = sample_results();
  default_finding(results, 5).score = std::numeric_limits<double>::quiet_NaN();
  default_finding(results, 12).steps_to_win = std::numeric_limits<double>::infinity();
  results.tampering[0].final_loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(to_markdown(results, sample_attacks()), HasSubstr("| 0 | not finite | 81.3% |"));
}

}  // namespace markdown_test
}  // namespace tempo::audit
