#include "page/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "page/parts.h"
#include "page/run_history.h"

namespace tempo::page {
namespace document_test {

using ::testing::HasSubstr;
using ::testing::Not;

RunView hostile_run() {
  RunView run;
  run.name = "</script><script>alert(1)</script>\xff";
  run.history = RunHistory().to_json();
  run.settings = {{"model", "<!-- \"resnet20\""}};
  run.statements = {{RunView::Kind::kHidden, "Images & labels"}};
  return run;
}

size_t count_of(const std::string& text, std::string_view what) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(what, at)) != text.npos; at += what.size()) ++count;
  return count;
}

TEST(Document, NothingOfTheDataBecomesMarkup) {
  const std::string html = run_document("<b>run</b>", {hostile_run()}, false).html;
  EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(html, Not(HasSubstr("<!-- \\\"resnet20")));
  EXPECT_THAT(html, HasSubstr("\\u003c/script>"));
  EXPECT_THAT(html, HasSubstr("<h1>&lt;b&gt;run&lt;/b&gt;</h1>"));
  EXPECT_EQ(count_of(html, "</script>"), 8U) << "the data, uPlot and six scripts of ours";
}

TEST(Document, NeedsNothingFromElsewhereAndMayNotAskForIt) {
  const Document report = run_document("run", {hostile_run()}, false);
  EXPECT_THAT(report.html, HasSubstr("default-src 'none'; script-src 'sha256-"));
  EXPECT_THAT(report.html, HasSubstr("connect-src 'none'"));
  EXPECT_THAT(report.html, Not(HasSubstr("'unsafe-inline'")));
  for (const char* outside : {"src=\"", "@import", "url(", "<link rel=\"stylesheet"})
    EXPECT_THAT(report.html, Not(HasSubstr(outside)));
  EXPECT_THAT(run_document("run", {hostile_run()}, true).security_policy, HasSubstr("connect-src 'self'"));
  EXPECT_THAT(jobs_document("{\"jobs\":[]}").security_policy, HasSubstr("frame-ancestors 'none'"));
}

TEST(Document, PartsAreWholeAndUPlotIsTheReleaseThatTheReadmeNames) {
  EXPECT_THAT(std::string(page_html()), HasSubstr("{{policy}}"));
  EXPECT_THAT(std::string(page_css()), HasSubstr("prefers-color-scheme: dark"));
  EXPECT_EQ(uplot_js().size(), 51'081U);
  EXPECT_THAT(std::string(uplot_js().substr(0, 200)), HasSubstr("uPlot"));
  EXPECT_EQ(uplot_css().size(), 1'857U);
}

}  // namespace document_test
}  // namespace tempo::page
