#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

#include "base/cpu_time.h"

namespace tempo {
namespace thread_pool_test {

TEST(ThreadPool, EveryIndexIsVisitedOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t count : {0, 1, 15, 16, 17, 1000})
      for (const int64_t grain : {1, 16}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
          EXPECT_EQ(begin % grain, 0);
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        for (const auto& visit : visits) EXPECT_EQ(visit, 1) << threads << " threads, " << count << " by " << grain;
      }
  }
}

TEST(ThreadPool, SeveralCallersCanUseOnePool) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&] {
      for (int j = 0; j < 50; ++j) pool.parallel_for(100, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
    });
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 50 * 100);
}

TEST(CpuTime, WorkOfAWorkerThreadIsNotCountedForTheTee) {
  const CpuSeconds before = process_cpu_seconds();
  std::atomic<bool> measured{false}, done{false};
  std::thread worker([&] {
    name_this_thread(kWorkerThreadName);
    volatile double x = 1;
    for (int i = 0; i < 30'000'000; ++i) x = x * 1.0000001;
    done = true;
    while (!measured) std::this_thread::yield();
  });
  while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const CpuSeconds after = process_cpu_seconds();
  measured = true;
  worker.join();
  const double worker_seconds = after.worker - before.worker, tee_seconds = after.tee - before.tee;
  EXPECT_GT(worker_seconds, 0.01);
  EXPECT_LT(tee_seconds, worker_seconds);
}

}  // namespace thread_pool_test
}  // namespace tempo
