#include "worker/telemetry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "observe/http_get.h"
#include "support/temp_folder.h"
#include "wire/host_port.h"

namespace tempo::worker {
namespace telemetry_test {

using nlohmann::json;
using ::testing::HasSubstr;

class TelemetryTest : public ::testing::Test {
 protected:
  std::string scrape() {
    const std::string prefix = "http://", address = server_.address().substr(prefix.size());
    return testing::http_get(wire::parse_host_port(address.substr(0, address.find('/'))).port, "/metrics");
  }
  std::vector<json> lines() {
    std::vector<json> lines;
    std::ifstream file(folder_ / "log");
    for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
    return lines;
  }

  testing::TempFolder folder_;
  observe::Metrics metrics_;
  observe::Log log_{(folder_ / "log").string()};
  std::shared_ptr<Monitor> monitor_ = make_telemetry(metrics_, log_);
  observe::MetricsServer server_{"localhost:0", metrics_};
};

constexpr size_t kForwardKind = 0, kUpdateKind = 3;

TEST_F(TelemetryTest, EverySeriesExistsFromTheStart) {
  const std::string text = scrape();
  for (const char* kind : {"forward", "input_gradient", "weight_gradient", "update", "fetch"})
    for (const char* outcome : {"done", "refused"})
      EXPECT_THAT(text, HasSubstr("tempo_worker_operations_total{operation=\"" + std::string(kind) + "\",outcome=\"" +
                                  outcome + "\"} 0\n"));
  for (const char* reason : {"master_left", "worker_stopped", "protocol_error", "failed"})
    EXPECT_THAT(text, HasSubstr("tempo_worker_sessions_ended_total{reason=\"" + std::string(reason) + "\"} 0\n"));
}

TEST_F(TelemetryTest, OperationsBytesAndTimesAreCounted) {
  const auto session = monitor_->session_began("shm");
  session->received(1000);
  session->stored(1000);
  session->done({.number = 1, .kind = kForwardKind, .step = {}}, 0.003, 64);
  session->done({.number = 2, .kind = kForwardKind, .step = {}}, 0.003, 64);
  session->refused({.number = 3, .kind = kUpdateKind, .step = 7}, RefusalCause::kOperandMissing);
  monitor_->session_refused("shm");
  const std::string text = scrape();
  EXPECT_THAT(text, HasSubstr("operations_total{operation=\"forward\",outcome=\"done\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("operations_total{operation=\"update\",outcome=\"refused\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("operation_seconds_count{operation=\"forward\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("\ntempo_worker_operand_bytes_total 1000\n"));
  EXPECT_THAT(text, HasSubstr("\ntempo_worker_reply_bytes_total 128\n"));
  EXPECT_THAT(text, HasSubstr("\ntempo_worker_sessions 1\n"));
  EXPECT_THAT(text, HasSubstr("\ntempo_worker_sessions_refused_total 1\n"));
}

TEST_F(TelemetryTest, StoredBytesAreSummedOverTheLivingSessions) {
  const auto first = monitor_->session_began("shm"), second = monitor_->session_began("grpc");
  first->stored(1000);
  second->stored(500);
  first->stored(300);
  EXPECT_THAT(scrape(), HasSubstr("\ntempo_worker_stored_bytes 800\n"));
  first->ended({});
  EXPECT_THAT(scrape(), HasSubstr("\ntempo_worker_stored_bytes 500\n"));
  EXPECT_THAT(scrape(), HasSubstr("\ntempo_worker_sessions 1\n"));
}

TEST_F(TelemetryTest, SessionsAndRefusalsAreLogged) {
  const auto session = monitor_->session_began("grpc");
  session->refused({.number = 812, .kind = kUpdateKind, .step = 7}, RefusalCause::kTooLarge);
  session->ended({.how = SessionEnd::kProtocolError, .detail = "a second hello"});
  const auto seen = lines();
  ASSERT_EQ(seen.size(), 3U);
  EXPECT_EQ(seen[0].at("event"), "session_began");
  EXPECT_EQ(seen[0].at("transport"), "grpc");
  EXPECT_EQ(seen[1].at("event"), "operation_refused");
  EXPECT_EQ(seen[1].at("operation"), 812);
  EXPECT_EQ(seen[1].at("kind"), "update");
  EXPECT_EQ(seen[1].at("step"), 7);
  EXPECT_EQ(seen[1].at("reason"), "too_large");
  EXPECT_EQ(seen[2].at("event"), "session_ended");
  EXPECT_EQ(seen[2].at("level"), "warning");
  EXPECT_EQ(seen[2].at("reason"), "protocol_error");
  EXPECT_EQ(seen[2].at("detail"), "a second hello");
  EXPECT_EQ(seen[2].at("session"), seen[0].at("session"));
}

TEST_F(TelemetryTest, RefusalsAreLoggedOnlyABoundedNumberOfTimes) {
  const auto session = monitor_->session_began("shm");
  for (uint64_t i = 0; i < 10'000; ++i)
    session->refused({.number = i, .kind = kForwardKind, .step = {}}, RefusalCause::kNotComputable);
  EXPECT_EQ(lines().size(), 102U) << "the beginning, 100 refusals, and that no more are logged";
  EXPECT_EQ(lines().back().at("event"), "refusals_not_logged");
  EXPECT_THAT(scrape(), HasSubstr("outcome=\"refused\"} 10000\n"));
}

}  // namespace telemetry_test
}  // namespace tempo::worker
