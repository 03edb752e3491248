#include "observe/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "observe/http_get.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "wire/host_port.h"

namespace tempo::observe {
namespace metrics_test {

using ::testing::HasSubstr;
using testing::http_get;
using testing::message_of;
using ::testing::Not;
using ::testing::StartsWith;

uint16_t port_of(const MetricsServer& server) {
  const std::string address = server.address();
  const size_t begin = std::string("http://").size();
  return wire::parse_host_port(address.substr(begin, address.rfind('/') - begin)).port;
}

std::string scrape(const MetricsServer& server) { return http_get(port_of(server), "/metrics"); }

TEST(Metrics, MetricsAreServedInTheFormatOfPrometheus) {
  Metrics metrics;
  metrics.counter("steps_total", "Steps done.").add(3);
  metrics.gauge("sessions", "Masters connected.").set(2);
  metrics.gauge("sessions", "Masters connected.").add(-1);
  metrics.counter("operations_total", "Operations.", {{"operation", "forward"}, {"outcome", "done"}}).add();
  const MetricsServer server("localhost:0", metrics);
  EXPECT_THAT(server.address(), StartsWith("http://localhost:"));
  EXPECT_NE(port_of(server), 0);
  const std::string text = scrape(server);
  EXPECT_THAT(text, StartsWith("HTTP/1.1 200 OK"));
  EXPECT_THAT(text, HasSubstr("# HELP steps_total Steps done.\n# TYPE steps_total counter\nsteps_total 3\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE sessions gauge\nsessions 1\n"));
  EXPECT_THAT(text, HasSubstr("operations_total{operation=\"forward\",outcome=\"done\"} 1\n"));
}

TEST(Metrics, CountsMadeAfterTheServerStartedAreServed) {
  Metrics metrics;
  Counter& steps = metrics.counter("steps_total", "Steps done.");
  const MetricsServer server("127.0.0.1:0", metrics);
  EXPECT_THAT(scrape(server), HasSubstr("\nsteps_total 0\n"));
  steps.add();
  EXPECT_THAT(scrape(server), HasSubstr("\nsteps_total 1\n"));
  steps.add(-5);
  EXPECT_THAT(scrape(server), HasSubstr("\nsteps_total 1\n")) << "a counter only grows";
}

TEST(Metrics, TheSameNameAndLabelsAreTheSameMetric) {
  Metrics metrics;
  Counter& forward = metrics.counter("operations_total", "Operations.", {{"operation", "forward"}});
  EXPECT_EQ(&forward, &metrics.counter("operations_total", "Operations.", {{"operation", "forward"}}));
  EXPECT_NE(&forward, &metrics.counter("operations_total", "Operations.", {{"operation", "fetch"}}));
  EXPECT_THROW(metrics.gauge("operations_total", "Operations."), std::invalid_argument);
  EXPECT_THROW(metrics.counter("not a name", ""), std::invalid_argument);
}

TEST(Metrics, HistogramsOfSecondsGoFromATenthOfAMillisecondToAMinute) {
  Metrics metrics;
  Histogram& seconds = metrics.histogram("step_seconds", "Time of a step.");
  for (const double time : {0.00005, 0.003, 0.003, 100.0}) seconds.observe(time);
  const MetricsServer server("localhost:0", metrics);
  const std::string text = scrape(server);
  EXPECT_THAT(text, HasSubstr("# TYPE step_seconds histogram\n"));
  EXPECT_THAT(text, HasSubstr("step_seconds_count 4\n"));
  EXPECT_THAT(text, HasSubstr("step_seconds_bucket{le=\"0.0001\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("step_seconds_bucket{le=\"0.0025\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("step_seconds_bucket{le=\"0.005\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("step_seconds_bucket{le=\"60\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("step_seconds_bucket{le=\"+Inf\"} 4\n"));
}

TEST(Metrics, NoCountIsLostBetweenThreads) {
  constexpr int kThreads = 4, kEach = 5000;
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&metrics] {
      Counter& steps = metrics.counter("steps_total", "");
      for (int k = 0; k < kEach; ++k) steps.add();
    });
  for (std::thread& thread : threads) thread.join();
  const MetricsServer server("localhost:0", metrics);
  EXPECT_THAT(scrape(server), HasSubstr("\nsteps_total 20000\n"));
}

TEST(MetricsServer, PathsOtherThanMetricsAreNotServed) {
  Metrics metrics;
  const MetricsServer server("localhost:0", metrics);
  for (const char* path : {"/", "/etc/passwd", "/../../etc/passwd"})
    EXPECT_THAT(http_get(port_of(server), path), Not(StartsWith("HTTP/1.1 200"))) << path;
}

TEST(MetricsServer, MethodsAndQueriesAreAnsweredAsHttpRequires) {
  Metrics metrics;
  metrics.counter("c_total", "C.").add();
  const MetricsServer server("127.0.0.1:0", metrics);
  const uint16_t port = port_of(server);
  const std::string page = http_get(port, "/metrics");
  EXPECT_EQ(http_get(port, "/metrics?x=1"), page);
  EXPECT_EQ(http_get(port, "/metrics?"), page);
  const size_t headers = page.find("\r\n\r\n") + 4;
  EXPECT_EQ(testing::http_request(port, "HEAD", "/metrics"), page.substr(0, headers));
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS"}) {
    const std::string answer = testing::http_request(port, method, "/metrics");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 ")) << method;
    EXPECT_THAT(answer, HasSubstr("\r\nAllow: GET, HEAD\r\n")) << method;
  }
  EXPECT_THAT(http_get(port, "/?/metrics"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(testing::http_request(port, "HEAD", "/other"), ::testing::EndsWith("\r\n\r\n"));
  EXPECT_THAT(http_get(port, ""), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(testing::http_request(port, "nonsense\r\n", ""), StartsWith("HTTP/1.1 400 "));
}

TEST(MetricsServer, AddressesThatCannotBeServedAreRefusedWithOneLine) {
  Metrics metrics;
  const MetricsServer server("127.0.0.1:0", metrics);
  const std::string taken = "127.0.0.1:" + std::to_string(port_of(server));
  EXPECT_THAT(message_of<InputError>([&] { MetricsServer(taken, metrics); }),
              HasSubstr("metrics: cannot listen at " + taken + ": Address already in use"));
  EXPECT_THAT(message_of<InputError>([&] { MetricsServer("192.0.2.1:0", metrics); }), HasSubstr("cannot listen at"));
  for (const char* bad : {"", "9464", "localhost", "localhost:99999", "localhost:0,0.0.0.0:0", "a b:1", ":9464"})
    EXPECT_THAT(message_of<InputError>([&] { MetricsServer(bad, metrics); }),
                HasSubstr("metrics: address: got \"" + std::string(bad) + "\", expected HOST:PORT"));
}

TEST(MetricsServer, AServerOutlivesTheMetricsAndStopsListeningWhenDestroyed) {
  auto metrics = std::make_unique<Metrics>();
  metrics->counter("steps_total", "").add();
  auto server = std::make_unique<MetricsServer>("localhost:0", *metrics);
  const uint16_t port = port_of(*server);
  metrics.reset();
  EXPECT_THAT(scrape(*server), HasSubstr("\nsteps_total 1\n"));
  server.reset();
  EXPECT_THROW(http_get(port, "/metrics"), std::runtime_error);
}

}  // namespace metrics_test
}  // namespace tempo::observe
