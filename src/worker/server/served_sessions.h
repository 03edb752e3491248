/// The sessions of a server: each on a thread of its own, and gone with all it held as soon as its master has left.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "worker/server/process_memory.h"

namespace tempo::worker {

/// @tparam Session has `run() noexcept`, which returns once the session is over.
/// Thread-safe, but for `join` and the destructor: nobody may begin a session during or after them, and every session
/// must be over or have been told to stop.
template <typename Session>
class ServedSessions {
 public:
  ServedSessions() = default;
  ~ServedSessions() { join(); }
  ServedSessions(const ServedSessions&) = delete;
  ServedSessions& operator=(const ServedSessions&) = delete;

  /// @throws std::system_error if there is no thread for it.
  void begin(std::unique_ptr<Session> session) {
    const std::lock_guard lock(mutex_);
    served_.remove_if([](Served& served) {
      if (served.is_over) served.thread.join();
      return served.is_over;
    });
    std::list<Served> one(1);
    one.front().session = std::move(session);
    one.front().thread = std::thread([this, &served = one.front()] { serve(served); });
    served_.splice(served_.end(), one);  // keeps its address
  }

  /// How many still hold memory.
  [[nodiscard]] size_t count() const {
    const std::lock_guard lock(mutex_);
    return count_locked();
  }

  /// Calls `visit` with every session whose `run` has not returned.
  template <typename Visit>
  void for_each(const Visit& visit) {
    const std::lock_guard lock(mutex_);
    for (Served& served : served_)
      if (served.session != nullptr) visit(*served.session);
  }

  /// False if some are not over by `deadline`.
  bool wait_until_over(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, deadline, [this] { return count_locked() == 0; });
  }

  void join() {
    for (Served& served : served_) served.thread.join();
    served_.clear();
  }

 private:
  struct Served {
    std::unique_ptr<Session> session;
    bool is_over = false;
    std::thread thread;
  };

  void serve(Served& served) {
    served.session->run();
    std::unique_ptr<Session> ended;
    {
      const std::lock_guard lock(mutex_);
      ended = std::move(served.session);
    }
    ended.reset();
    give_back_freed_memory();
    const std::lock_guard lock(mutex_);
    served.is_over = true;
    changed_.notify_all();
  }

  [[nodiscard]] size_t count_locked() const {
    return static_cast<size_t>(
        std::count_if(served_.begin(), served_.end(), [](const Served& served) { return !served.is_over; }));
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Served> served_;
};

}  // namespace tempo::worker
