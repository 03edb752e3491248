#include "page/live_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "observe/http_get.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::page {
namespace live_page_test {

using nlohmann::json;
using ::testing::HasSubstr;
using testing::http_get;
using ::testing::StartsWith;

uint16_t port_of(const LivePage& page) {
  return static_cast<uint16_t>(std::stoi(page.address().substr(page.address().rfind(':') + 1)));
}

json data(const LivePage& page, const std::string& query = "") {
  const std::string answer = http_get(port_of(page), "/data.json" + query);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  return json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
}

TEST(LivePage, ServesThePageAndWhatIsNew) {
  LivePage page("0");
  EXPECT_THAT(page.address(), StartsWith("http://localhost:"));
  RunView view;
  view.name = "runs/first";
  view.total_steps = 10;
  page.describe(view);
  page.add_line(R"({"step":1,"loss":2})");
  const std::string html = http_get(port_of(page), "/");
  EXPECT_THAT(html, HasSubstr("Content-Security-Policy: default-src 'none'; script-src 'sha256-"));
  EXPECT_THAT(html, HasSubstr("X-Content-Type-Options: nosniff"));
  EXPECT_THAT(html, HasSubstr("Cache-Control: no-store"));
  EXPECT_THAT(html, HasSubstr("\"live\":true"));
  EXPECT_THAT(html, HasSubstr("runs/first"));
  const json first = data(page);
  page.add_line("no line of metrics");
  page.add_line(R"({"step":2,"loss":1})");
  const std::string since = "?generation=" + first["generation"].dump() + "&steps=1&tests=0&events=0";
  EXPECT_EQ(data(page, since)["steps"]["step"], json({2}));
  page.went_back(1);
  EXPECT_EQ(data(page, since)["steps"]["step"], json({1}));
  EXPECT_THAT(http_get(port_of(page), "/data.json?steps=-1"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(http_get(port_of(page), "/metrics.jsonl"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(testing::http_request(port_of(page), "POST", "/"), StartsWith("HTTP/1.1 405"));
}

TEST(LivePage, ManyReadersWhileItGrows) {
  LivePage page("127.0.0.1:0");
  std::vector<std::thread> readers;
  for (int i = 0; i < 6; ++i)
    readers.emplace_back([&page] {
      for (int k = 0; k < 20; ++k) EXPECT_GE(data(page)["steps"]["step"].size(), 0U);
    });
  for (int step = 1; step <= 5000; ++step) page.add_line("{\"step\":" + std::to_string(step) + ",\"loss\":1}");
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(data(page)["steps"]["step"].back(), 5000);
}

TEST(LivePage, RefusesAddressesWithOneLine) {
  const LivePage page("127.0.0.1:0");
  const std::string taken = "127.0.0.1:" + std::to_string(port_of(page));
  EXPECT_THAT(testing::message_of<InputError>([&] { LivePage{taken}; }),
              HasSubstr("page: cannot listen at " + taken + ": Address already in use"));
  for (const char* bad : {"", "localhost", "99999", ":8080", "a b:1"})
    EXPECT_THAT(testing::message_of<InputError>([&] { LivePage{std::string(bad)}; }),
                HasSubstr("page: got \"" + std::string(bad) + "\", expected PORT of localhost, or HOST:PORT"));
}

}  // namespace live_page_test
}  // namespace tempo::page
