/// What a run tells people and machines who watch it: Prometheus, log lines, notes beside the progress line.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "observe/log.h"
#include "observe/metrics.h"
#include "offload/session.h"
#include "train/run_log.h"

namespace tempo::train {

/// Numbers, names of workers and of operations; never a value of a tensor, a loss or a key. Not thread-safe.
class Telemetry final : public offload::PoolObserver {
 public:
  /// @param metrics HOST:PORT to serve, @param log file or "-"; empty: nowhere. @throws InputError as observe does
  Telemetry(const std::string& metrics, const std::string& log);

  /// Where notes for a person go; nothing: nowhere.
  void notes_to(std::function<void(const std::string&)> note) { note_ = std::move(note); }
  /// Where what happens goes, as lines of the run's log; nothing: nowhere.
  void events_to(std::function<void(int64_t step, const RunEvent&)> happened) { happened_ = std::move(happened); }
  /// "http://localhost:9464/metrics", or nothing.
  [[nodiscard]] std::string address() const { return server_ ? server_->address() : std::string(); }

  /// @param step from 1: events that follow are of it.
  void step_began(int64_t step) { step_ = step; }
  void step_done(double seconds, int64_t samples);
  /// Counters since the run began, and how many workers there are.
  void totals(const offload::Counters& counters, const offload::Verifier::Counts& checks, size_t workers);
  /// @param workers that have a share of the work, and @param names of them
  void began(size_t workers, const std::string& names);
  void saved(int64_t step);
  void went_back(int64_t to);
  void say(const std::string& note) const;

  void joined(const std::string& uri) override;
  void lost(const std::string& uri, const std::string& reason) override;
  void quarantined(const std::string& uri, const std::string& reason) override;
  void reissued(const std::string& what, const std::string& to) override;
  void completed(const char* operation, double seconds) override;

 private:
  /// A counter that follows a total kept elsewhere.
  struct Follower {
    observe::Counter& counter;
    double seen = 0;
    void follow(double total);
  };

  observe::Metrics metrics_;
  std::unique_ptr<observe::Log> log_;
  std::unique_ptr<observe::MetricsServer> server_;
  observe::Histogram& step_seconds_;
  observe::Counter &samples_, &checkpoints_, &returns_, &joined_, &lost_, &quarantined_;
  observe::Gauge& workers_;
  Follower bytes_to_, bytes_from_, encryptions_, checks_, failures_, reissued_;
  std::map<std::string, observe::Histogram*, std::less<>> operation_seconds_;
  /// @param event without `during`
  void happened(RunEvent event) const;

  std::function<void(const std::string&)> note_;
  std::function<void(int64_t, const RunEvent&)> happened_;
  int64_t step_ = 0;
};

}  // namespace tempo::train
