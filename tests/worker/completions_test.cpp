#include "worker/completions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "tempo/error.h"

namespace tempo::worker {
namespace completions_test {

TEST(Completions, ACompletionWithoutAWaitRunsAtOnceOnTheCallersThread) {
  Completions completions;
  const auto caller = std::this_thread::get_id();
  int called = 0;
  completions.add({}, [&](const std::exception_ptr& error) {
    EXPECT_FALSE(error);
    EXPECT_EQ(std::this_thread::get_id(), caller);
    ++called;
  });
  EXPECT_EQ(called, 1);
}

TEST(Completions, CompletionsRunInTheOrderAdded) {
  std::promise<void> device;
  std::vector<int> order;
  {
    Completions completions;
    completions.add([done = device.get_future().share()] { done.wait(); },
                    [&](const std::exception_ptr&) { order.push_back(1); });
    completions.add({}, [&](const std::exception_ptr&) { order.push_back(2); });
    completions.add([] {}, [&](const std::exception_ptr&) { order.push_back(3); });
    device.set_value();
  }  // which waits for all
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
}

TEST(Completions, AddBlocksWhileTooManyCompletionsWait) {
  constexpr int kCount = 200;
  std::promise<void> device;
  std::vector<int> order;
  std::atomic<int> added = 0;
  {
    Completions completions;
    completions.add([done = device.get_future().share()] { done.wait(); }, [](const std::exception_ptr&) {});
    const auto adding = std::async(std::launch::async, [&] {
      for (int i = 0; i < kCount; ++i, ++added)
        completions.add([] {}, [&order, i](const std::exception_ptr&) { order.push_back(i); });
    });
    EXPECT_EQ(adding.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
    EXPECT_LT(added, kCount / 2);
    device.set_value();
    adding.wait();
  }
  ASSERT_EQ(order.size(), static_cast<size_t>(kCount));
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(Completions, AFailedCompletionReleasesItsMemoryAndReportsTheError) {
  auto memory = std::make_shared<int>(1);
  std::atomic<bool> is_told = false;
  {
    Completions completions;
    completions.add([memory] { throw ProtocolError("worker: a copy failed on the device"); },
                    [&, weak = std::weak_ptr<int>(memory)](const std::exception_ptr& error) {
                      EXPECT_EQ(weak.use_count(), 1) << "the completion still holds on to its memory";
                      EXPECT_THROW(std::rethrow_exception(error), ProtocolError);
                      is_told = true;
                    });
  }
  EXPECT_TRUE(is_told);
}

}  // namespace completions_test
}  // namespace tempo::worker
