#include "base/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/cpu_time.h"

namespace tempo {

struct ThreadPool::State {
  std::mutex callers;  // one parallel_for at a time

  std::mutex mutex;
  std::condition_variable work_ready, work_done;
  const std::function<void(int64_t, int64_t)>* body = nullptr;
  int64_t count = 0, piece = 0;
  std::atomic<int64_t> next{0};
  uint64_t generation = 0;
  int busy = 0;
  bool stopping = false;
  std::vector<std::thread> helpers;

  void drain() {
    for (;;) {
      const int64_t begin = next.fetch_add(piece);
      if (begin >= count) return;
      (*body)(begin, std::min(begin + piece, count));
    }
  }

  void help() {
    name_this_thread("tempo-tee");
    uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      work_ready.wait(lock, [&] { return stopping || generation != seen; });
      if (stopping) return;
      seen = generation;
      lock.unlock();
      drain();
      lock.lock();
      if (--busy == 0) work_done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  for (int i = 1; i < threads; ++i) state_->helpers.emplace_back([this] { state_->help(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->work_ready.notify_all();
  for (auto& helper : state_->helpers) helper.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->helpers.size()) + 1; }

void ThreadPool::parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t grains = (count + grain - 1) / grain;
  if (state_->helpers.empty() || grains == 1) {
    body(0, count);
    return;
  }
  // A few pieces a thread: enough to balance, few enough that taking one costs nothing.
  const int64_t wanted = int64_t{threads()} * 4;
  const int64_t piece = std::max<int64_t>(1, (grains + wanted - 1) / wanted) * grain;

  const std::lock_guard one_caller(state_->callers);
  {
    const std::lock_guard lock(state_->mutex);
    state_->body = &body;
    state_->count = count;
    state_->piece = piece;
    state_->next = 0;
    state_->busy = static_cast<int>(state_->helpers.size());
    ++state_->generation;
  }
  state_->work_ready.notify_all();
  state_->drain();
  std::unique_lock lock(state_->mutex);
  state_->work_done.wait(lock, [&] { return state_->busy == 0; });
}

}  // namespace tempo
