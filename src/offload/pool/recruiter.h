/// Looks for workers that are not there, in the background, so that they can join a run.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tempo/worker.h"

namespace tempo::offload {

/// Thread-safe. One worker after the other is tried, each about once an interval; failures are expected and not
/// reported.
class Recruiter {
 public:
  /// Connects to one worker within about a second, or throws.
  using Connect = std::function<std::shared_ptr<Worker>(const std::string& uri)>;
  struct Arrival {
    std::string uri;
    std::shared_ptr<Worker> worker;
  };

  explicit Recruiter(Connect connect, std::chrono::milliseconds interval = std::chrono::milliseconds(500));
  /// Waits for the attempt that is under way.
  ~Recruiter();
  Recruiter(const Recruiter&) = delete;
  Recruiter& operator=(const Recruiter&) = delete;

  /// Tries until the worker has come, or `forget`.
  void seek(const std::string& uri);
  void forget(const std::string& uri);
  /// Who has come since the last call.
  std::vector<Arrival> take();
  /// Waits until somebody has come. False if nobody did in time, or before `*stop` was set: a signal handler, which can
  /// wake nobody, may set it.
  bool wait_for_arrival(std::chrono::milliseconds patience, const std::atomic<bool>* stop = nullptr);

 private:
  void work();

  const Connect connect_;
  const std::chrono::milliseconds interval_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> sought_;
  std::vector<Arrival> arrivals_;
  bool is_stopping_ = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace tempo::offload
