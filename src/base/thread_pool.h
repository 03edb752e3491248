/// Threads of the TEE's own kernels. They sleep when idle, so that their CPU time is work and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace tempo {

class ThreadPool {
 public:
  /// @param threads total, the calling thread included; at least 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const;

  /// Calls `body(begin, end)` over disjoint pieces of [0, count), at most `threads()` at a time, and waits for all.
  /// A piece is a multiple of `grain` long (the last may be shorter). The caller takes part. `body` must not throw.
  /// One call at a time per pool: a second caller waits.
  void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tempo
