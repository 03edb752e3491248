// Sums of resident gradients between worker processes, as a master of several sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "offload/transport_servers.h"
#include "offload/worker_factory.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace collective_process_test {

using ::testing::HasSubstr;
using testing::message_of;

constexpr std::chrono::seconds kLong{60};

class CollectiveProcesses : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    for (int i = 0; i < 2; ++i) {
      const std::string listen =
          GetParam() + (GetParam() == std::string("shm://")
                            ? "tempo-sum-" + std::to_string(getpid()) + "-" + std::to_string(++count_)
                            : std::string());
      processes_.push_back(std::make_unique<testing::WorkerProcess>(
          listen, std::vector<std::string>{"--collective", "127.0.0.1:0", "--collective-timeout", "3"}));
      workers_.push_back(make_worker(processes_.back()->uri()));
    }
  }
  std::vector<std::future<Buffer>> join(const std::string& group) {
    std::vector<std::future<Buffer>> replies;
    const std::string rendezvous = workers_[0]->describe().collective;
    for (uint32_t rank = 0; rank < 2; ++rank)
      replies.push_back(workers_[rank]->submit(JoinGroup{rendezvous, group, rank, 2}));
    return replies;
  }
  void put(size_t i, OperandId id, std::vector<int64_t> shape, float value) {
    Buffer buffer = workers_[i]->allocate({.shape = std::move(shape)});
    std::fill_n(reinterpret_cast<float*>(buffer.data()), buffer.spec().elements(), value);
    workers_[i]->put(id, buffer);
  }
  float first_of(size_t i, OperandId id) {
    const Buffer buffer = workers_[i]->submit(Fetch{id}).get();
    float value = 0;
    std::memcpy(&value, buffer.data(), sizeof value);
    return value;
  }

  static inline int count_ = 0;
  std::vector<std::unique_ptr<testing::WorkerProcess>> processes_;
  std::vector<std::shared_ptr<Worker>> workers_;
};

TEST_P(CollectiveProcesses, KeptGradientsAreSummedAndUpdateTheWeights) {
  for (auto& reply : join("once")) EXPECT_EQ(reply.get().spec().shape, std::vector<int64_t>{0});
  std::vector<std::future<Buffer>> norms, updates;
  for (size_t i = 0; i < 2; ++i) {
    put(i, 1, {5, 2}, 1);
    put(i, 2, {5, 3}, static_cast<float>(i + 1));
    put(i, 3, {3, 2}, 100);
    put(i, 4, {3, 2}, 0);
    workers_[i]->submit(WeightGradient{.product = {}, .x = 1, .dy = 2, .w_shape = {3, 2}, .keep_as = 7});
    norms.push_back(workers_[i]->submit(AllReduce{7}));
    updates.push_back(workers_[i]->submit(Update{.w = 3, .velocity = 4, .dw = 7, .step = 1, .learning_rate = 1}));
  }
  for (size_t i = 0; i < 2; ++i) {
    const Buffer norm = norms[i].get();
    ASSERT_EQ(norm.spec(), (TensorSpec{ElementType::kFloat64, {1}}));
    double squared = 0;
    std::memcpy(&squared, norm.data(), sizeof squared);
    EXPECT_EQ(squared, 6 * 15.0 * 15.0);
    updates[i].get();
    EXPECT_EQ(first_of(i, 7), 15);
    EXPECT_EQ(first_of(i, 3), 85);
  }
}

TEST_P(CollectiveProcesses, ASumIsRefusedIfAMemberDiesAndTheSessionGoesOn) {
  for (auto& reply : join("until one dies")) reply.get();
  put(0, 1, {1000}, 2);
  auto sum = workers_[0]->submit(AllReduce{1});
  processes_[1]->kill();
  ASSERT_EQ(sum.wait_for(kLong), std::future_status::ready);
  EXPECT_THAT(message_of<ProtocolError>([&] { sum.get(); }), HasSubstr("the group is over: a member was lost"));
  EXPECT_EQ(first_of(0, 1), 2);
  workers_[0]->submit(JoinGroup{workers_[0]->describe().collective, "alone", 0, 1}).get();
  workers_[0]->submit(AllReduce{1}).get();
  EXPECT_EQ(first_of(0, 1), 2);
}

TEST_P(CollectiveProcesses, ASumIsRefusedInTimeIfAMemberStopsAnswering) {
  for (auto& reply : join("until one is silent")) reply.get();
  put(0, 1, {1000}, 2);
  ::kill(processes_[1]->id(), SIGSTOP);
  const auto begin = std::chrono::steady_clock::now();
  auto sum = workers_[0]->submit(AllReduce{1});
  EXPECT_THAT(message_of<ProtocolError>([&] { sum.get(); }), HasSubstr("the group is over: a member was silent"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(6));
  EXPECT_EQ(first_of(0, 1), 2);
  workers_.erase(workers_.begin());
  EXPECT_EQ(processes_[0]->stop(), 0) << "and the worker still stops in order";
}

TEST_P(CollectiveProcesses, AWorkerDoesNotConnectToHostsThatAreNotPeers) {
  EXPECT_THAT(message_of<ProtocolError>([&] {
                workers_[1]->submit(JoinGroup{"192.0.2.1:80", "elsewhere", 1, 2}).get();
              }),
              HasSubstr("is not one of this worker's peers"));
}

INSTANTIATE_TEST_SUITE_P(Transports, CollectiveProcesses, ::testing::Values("insecure://127.0.0.1:0", "shm://"),
                         [](const auto& which) { return std::string(which.param[0] == 's' ? "shm" : "insecure"); });

}  // namespace collective_process_test
}  // namespace tempo::offload
