#include "audit/report/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <limits>

#include "audit/report/sample_results.h"
#include "audit/report/svg_chart.h"

namespace tempo::audit {
namespace html_test {

using testing::default_finding;
using ::testing::HasSubstr;
using testing::make_leak;
using ::testing::Not;
using testing::sample_attacks;
using testing::sample_results;

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

/// Whether every element that needs an end has it, in the right order. Returns the first fault.
std::string tag_fault(const std::string& html) {
  const std::vector<std::string> alone = {"meta", "br", "!DOCTYPE"};
  std::vector<std::string> open;
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
    const size_t end = html.find('>', at);
    if (end == std::string::npos) return "tag without an end";
    const std::string tag = html.substr(at + 1, end - at - 1), name = tag.substr(0, tag.find_first_of(" \n/", 1));
    if (tag.ends_with('/') || std::find(alone.begin(), alone.end(), name) != alone.end()) continue;
    if (!tag.starts_with('/')) {
      open.push_back(name);
      continue;
    }
    if (open.empty() || open.back() != tag.substr(1)) return tag + " after " + (open.empty() ? "nothing" : open.back());
    open.pop_back();
  }
  return open.empty() ? "" : open.back() + " is left open";
}

TEST(Html, TheReportRefersToNothingOutsideItself) {
  const std::string html = to_html(sample_results(), sample_attacks());
  for (const char* word :
       {"http://", "https://", "<script", "<link", "<img", "url(", "@import", "src=", "nan", "inf\""})
    EXPECT_THAT(html, Not(HasSubstr(word)));
  EXPECT_THAT(html, HasSubstr("<meta name=\"viewport\""));
  if (const char* path = std::getenv("TEMPO_AUDIT_SAMPLE_HTML")) std::ofstream(path) << html;  // to look at it
}

TEST(Html, TagsAreBalanced) {
  const std::string html = to_html(sample_results(), sample_attacks());
  EXPECT_EQ(tag_fault(html), "");
  for (const char* tag : {"table", "svg", "details"}) {
    EXPECT_EQ(count(html, std::string("<") + tag + " ") + count(html, std::string("<") + tag + ">"),
              count(html, std::string("</") + tag + ">"));
  }
  EXPECT_EQ(count(html, "<svg "), 2 + 3 + 3 + 1U);  // costs, layers, budgets, tampering
  EXPECT_EQ(count(html, "<details class=\"attack\">"), 15U);
  EXPECT_EQ(tag_fault(to_html({}, {})), "");
}

TEST(Html, TheVerdictComesFirst) {
  AuditResults results = sample_results();
  EXPECT_THAT(to_html(results, sample_attacks()),
              HasSubstr("<div class=\"verdict good\"><p class=\"headline\">At chance: "));
  make_leak(default_finding(results, 5), 0.31);
  const std::string html = to_html(results, sample_attacks());
  EXPECT_THAT(html, HasSubstr("<div class=\"verdict bad\"><p class=\"headline\">NOT at chance: "));
  EXPECT_LT(html.find("NOT at chance"), html.find("<h2>"));
  EXPECT_THAT(to_html({}, {}), HasSubstr("<div class=\"verdict\"><p class=\"headline\">No verdict: "));
}

TEST(Html, TheReportHasACellForEveryMeasurement) {
  AuditResults results = sample_results();
  const std::string html = to_html(results, sample_attacks());
  EXPECT_EQ(count(html, "<small>chance "), 2 * (15 * 8 - 7) + 8U);  // attack 8 works under one setting only
  EXPECT_EQ(count(html, ">n/a</td>"), 2 * 7 + 3 * 2 * 3 * 7U);      // heat maps; three figures of every finding
  EXPECT_EQ(count(html, "<td class=\"none\">not run</td>"), 0U);
  EXPECT_EQ(count(html.substr(html.find("Every measurement")), "<tr>"), results.findings.size() + 1);
  std::erase_if(results.findings, [](const FindingResult& finding) { return finding.attack == 7; });
  EXPECT_EQ(count(to_html(results, sample_attacks()), "<p>Not run: 7 "), 2U) << "one line for each start";
}

TEST(Html, TheTitleOfACellNamesTheWorstCase) {
  AuditResults results = sample_results();
  FindingResult worst = default_finding(results, 5);
  worst.layer = "layer2.conv2";
  worst.note = "by sorted values";
  make_leak(worst, 0.77);
  results.findings.push_back(worst);
  EXPECT_THAT(to_html(results, sample_attacks()),
              HasSubstr("start secret. Worst of 4 measurements in layer layer2.conv2: share of channels matched, 0.77 "
                        "(chance 0.02, noise 0.01). by sorted values\"><span class=\"beaten\">0.77</span>"));
}

TEST(Html, EveryNameIsEscaped) {
  const std::string evil = "\"'<b>&\n";
  AuditResults results = sample_results();
  results.version = results.command = results.date = results.machine = evil;
  results.victim.model = results.victim.data = results.victim.layers[0] = evil;
  for (auto& setting : results.settings) setting.flags = evil;
  results.settings[1].name = evil;
  for (auto& f : results.findings) {
    f.target = f.measure = f.note = evil;
    if (f.attack % 3 == 0) f.setting = f.layer = f.start = evil;
  }
  for (auto& curve : results.pooling) curve.setting = curve.layer = evil;
  for (size_t i = 1; i + 1 < results.surrogates.size(); ++i)
    results.surrogates[i].start_from = results.surrogates[i].budget = evil;
  for (auto& info : results.information) info.setting = info.layer = evil;
  Attack attack = sample_attacks()[0];
  attack.name = attack.question = attack.needs = attack.source = evil.c_str();
  const std::string html = to_html(results, std::span(&attack, 1));
  EXPECT_EQ(count(html, "<b>&"), 0U);
  EXPECT_EQ(count(html, "\"'"), 0U);
  EXPECT_THAT(html, HasSubstr("&quot;&#39;&lt;b&gt;&amp; "));
  EXPECT_EQ(tag_fault(html), "");
}

TEST(Html, NumbersThatAreNotFiniteAreWrittenWithoutACrash) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();
  AuditResults results = sample_results();
  default_finding(results, 5).score = kNan;
  default_finding(results, 6).chance = kInf;
  default_finding(results, 12).steps_to_win = kInf;
  results.settings[0].bytes_per_sample = kInf;
  results.pooling[0].score = {kNan, kInf, kNan, kInf, kNan};
  results.pooling[1].steps[0] = 0;
  results.surrogates[2].accuracy = kNan;
  results.tampering[2].test_accuracy = kNan;
  const std::string html = to_html(results, sample_attacks());
  EXPECT_EQ(tag_fault(html), "");
  for (const char* word : {"\"nan\"", "\"inf\"", "nan,", "rgba(213,94,0,nan)"}) EXPECT_THAT(html, Not(HasSubstr(word)));
}

TEST(SvgChart, ChartsOfEmptyAndExtremeValuesAreWellFormed) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool log_x : {false, true}) {
    for (const std::vector<double>& values :
         std::vector<std::vector<double>>{{}, {0}, {1}, {nan}, {1e-300, 1e300}, {5, 5}, {-1, 2}}) {
      LineChart lines{"<title>&", "x", "y", {{"<s>", values, values}}, {{"chance", 0.3}}, log_x};
      EXPECT_EQ(tag_fault(line_chart(lines)), "");
      EXPECT_THAT(line_chart(lines), Not(HasSubstr("nan")));
    }
  }
  for (const double value : {0.0, -2.0, nan, 1e300})
    EXPECT_THAT(bar_chart({"t", "x", {"a", "b"}, {{"s", {value}}, {"r", {1, 2}}}, {{"l", value}}}),
                Not(HasSubstr("nan")));
  EXPECT_THAT(bar_chart({}), HasSubstr("nothing to draw"));
}

TEST(SvgChart, SeriesAreToldApartWithoutColour) {
  LineChart chart{"t", "x", "y", {}, {}, true};
  for (int i = 0; i < 9; ++i)
    chart.series.push_back({std::string(1, static_cast<char>('a' + i)), {1, 10, 100}, {0, 0.5, 1}});
  const std::string svg = line_chart(chart);
  EXPECT_EQ(count(svg, "<polyline"), 9U);
  EXPECT_EQ(count(svg, "stroke-dasharray=\"7 3\""), 2 * 2U);  // the eighth and ninth, and their legend
  for (const char* tick : {">1<", ">10<", ">100<"}) EXPECT_THAT(svg, HasSubstr(tick));
}

TEST(SvgChart, BarsStartAtZeroAndEndInTheirValue) {
  const std::string svg = bar_chart({"t", "x", {"a"}, {{"s", {0.5}}}, {{"black box", 0.25}}, 1, true});
  EXPECT_THAT(svg, HasSubstr(">50.0%</text>"));
  EXPECT_THAT(svg, HasSubstr(">black box</text>"));
  EXPECT_THAT(svg, HasSubstr(">0%</text>"));
}

}  // namespace html_test
}  // namespace tempo::audit
