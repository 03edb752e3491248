/// Looks for missing workers in the background, so that they can join a run.
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

#include "offload/contract.h"

namespace tempo::offload {

/// Tries to connect to one missing worker after the other, to each about once an interval. Failures are expected and
/// not reported. Thread-safe.
class Recruiter {
 public:
  /// Connects to one worker within about a second, or throws.
  using Connect = std::function<std::shared_ptr<Worker>(const std::string& uri)>;
  struct Arrival {
    std::string uri;
    std::shared_ptr<Worker> worker;
  };

  explicit Recruiter(Connect connect, std::chrono::milliseconds interval = std::chrono::milliseconds(500));
  /// Waits for the attempt under way.
  ~Recruiter();
  Recruiter(const Recruiter&) = delete;
  Recruiter& operator=(const Recruiter&) = delete;

  /// Tries until the worker is connected or `forget` is called.
  void seek(const std::string& uri);
  void forget(const std::string& uri);
  /// Returns the workers connected since the last call.
  std::vector<Arrival> take();
  /// Waits until a worker is connected. Returns false if none is within `patience`, or before `*stop` is set. `*stop`
  /// is polled, because a signal handler, which cannot notify, may set it.
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
  std::thread thread_;  // last: the thread uses the members above
};

}  // namespace tempo::offload
