/// Calls back once what a device was asked for is done, in the order in which it was asked.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "worker/executor.h"

namespace tempo::worker {

class Completions {
 public:
  Completions() = default;
  /// Waits for all that is under way.
  ~Completions();
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  /// Null if all went well.
  using Then = std::function<void(const std::exception_ptr& error)>;
  /// @param then is called after `completion`, on a thread of this object's, and after those that came before; it must
  /// not throw. At once, on the caller's thread, as long as nothing ever had to be waited for. Waits while as many as
  /// may be are under way. Of one thread at a time.
  void add(Completion completion, Then then);

 private:
  struct Item {
    Completion completion;
    Then then;
  };
  static void finish(Item& item);
  void serve();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace tempo::worker
