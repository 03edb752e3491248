// Several workers as one: the same results, whoever fails, joins or leaves.
#include "offload/pool/worker_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "offload/pool/small_training.h"
#include "offload/transport/inprocess.h"
#include "support/faulty_worker.h"
#include "support/temp_folder.h"

namespace tempo::offload {
namespace worker_pool_test {

using testing::Fault;
using testing::FaultyWorker;
using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_difference;
using testing::SmallTraining;

constexpr int kSteps = 7;
constexpr double kRounding = 1e-5;
const PoolOptions kImpatient{.operation = std::chrono::milliseconds(1'000), .straggler = std::chrono::milliseconds(50)};

BlindingOptions options_of(WeightPlacement weights, Reuse reuse = Reuse::kFull) {
  BlindingOptions options;
  options.weights = weights;
  options.reuse = reuse;
  options.rekey_interval = 3;
  return options;
}

/// Workers in this process by name; those that are not in `workers` cannot be connected to.
struct Machines {
  std::map<std::string, std::shared_ptr<FaultyWorker>> workers;
  std::mutex mutex;

  std::shared_ptr<FaultyWorker> add(const std::string& name, Fault fault = Fault::kNone, int after = 0) {
    const std::lock_guard lock(mutex);
    return workers[name] = std::make_shared<FaultyWorker>(make_inprocess_worker("cpu", 1), name, fault, after);
  }
  void remove(const std::string& name) {
    const std::lock_guard lock(mutex);
    workers.erase(name);
  }
  std::unique_ptr<WorkerPool> pool(const std::vector<std::string>& names, const PoolOptions& options = {}) {
    const auto connect = [this](const std::string& name) -> std::shared_ptr<Worker> {
      const std::lock_guard lock(mutex);
      const auto found = workers.find(name);
      if (found == workers.end()) throw WorkerLostError(name + ": no worker answers");
      return found->second;
    };
    return std::make_unique<WorkerPool>(names, connect, connect, options);
  }
};

std::vector<float> honest_state(const BlindingOptions& options, int steps = kSteps) {
  SmallTraining training(std::make_unique<WorkerPool>(make_inprocess_worker("cpu", 1)), options);
  training.steps(steps);
  return training.state();
}

MemberState state_of(const WorkerPool& pool, const std::string& name) {
  for (const Member& member : pool.members())
    if (member.uri == name) return member.state;
  return MemberState::kLeft;
}

TEST(WorkerPool, SeveralWorkersGiveTheResultOfOne) {
  for (const auto& [weights, reuse] : {std::pair{WeightPlacement::kResident, Reuse::kFull},
                                       {WeightPlacement::kReturned, Reuse::kFull},
                                       {WeightPlacement::kReturned, Reuse::kSplit},
                                       {WeightPlacement::kReturned, Reuse::kFresh},
                                       {WeightPlacement::kReturned, Reuse::kNone}}) {
    const BlindingOptions options = options_of(weights, reuse);
    const std::vector<float> expected = honest_state(options);
    for (const size_t count : {1, 2, 3, 7}) {
      SCOPED_TRACE(std::to_string(count) + " workers");
      Machines machines;
      std::vector<std::string> names;
      for (size_t i = 0; i < count; ++i) names.push_back("w" + std::to_string(i));
      for (const auto& name : names) machines.add(name);
      SmallTraining training(machines.pool(names), options);
      training.steps(kSteps);
      EXPECT_LT(relative_difference(training.state(), expected), kRounding);
      EXPECT_EQ(training.workers().active(), count);
      EXPECT_EQ(training.workers().reissued(), 0U);
    }
  }
}

class WorkerPoolFaults : public ::testing::TestWithParam<std::tuple<Fault, WeightPlacement>> {};

TEST_P(WorkerPoolFaults, AnotherWorkerTakesOverAndTheResultIsRight) {
  const auto [fault, weights] = GetParam();
  const BlindingOptions options = options_of(weights);
  const std::vector<float> expected = honest_state(options);
  for (const int after : {0, 1, 2, 5, 18}) {  // a forward product, both gradients, later steps
    SCOPED_TRACE("after " + std::to_string(after) + " operations");
    Machines machines;
    machines.add("good");
    machines.add("bad", fault, after);
    machines.add("fair");
    SmallTraining training(machines.pool({"good", "bad", "fair"}, kImpatient), options);
    for (int i = 0; i < kSteps; ++i) {
      training.step();
      machines.remove("bad");  // it does not come back
    }
    EXPECT_LT(relative_difference(training.state(), expected), kRounding);
    EXPECT_TRUE(state_of(training.workers(), "good") == MemberState::kActive);
    EXPECT_TRUE(state_of(training.workers(), "fair") == MemberState::kActive);
    const MemberState bad = state_of(training.workers(), "bad");
    if (fault == Fault::kWrongShape || fault == Fault::kRefuses) {
      EXPECT_TRUE(bad == MemberState::kQuarantined);
    } else if (fault != Fault::kIsLate) {
      EXPECT_TRUE(bad == MemberState::kAbsent);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Pool, WorkerPoolFaults,
                         ::testing::Combine(::testing::Values(Fault::kDies, Fault::kHangs, Fault::kIsLate,
                                                              Fault::kWrongShape, Fault::kRefuses),
                                            ::testing::Values(WeightPlacement::kResident, WeightPlacement::kReturned)));

TEST(WorkerPool, TheErrorNamesTheLastWorkerThatDied) {
  Machines machines;
  machines.add("a", Fault::kDies, 4);
  machines.add("b", Fault::kDies, 9);
  SmallTraining training(machines.pool({"a", "b"}), options_of(WeightPlacement::kReturned));
  EXPECT_THAT(message_of<WorkerLostError>([&] { training.steps(kSteps); }), HasSubstr(": the worker ended"));
  EXPECT_EQ(training.workers().active(), 0U);
  EXPECT_THROW(training.step(), WorkerLostError);
}

TEST(WorkerPool, APoolWithoutAnyWorkerIsNotMade) {
  Machines machines;
  EXPECT_THAT(message_of<WorkerLostError>([&] { machines.pool({"a", "b"}); }), HasSubstr(": no worker answers"));
}

TEST(WorkerPool, ANewWorkerGetsAShareOfTheRows) {
  for (const WeightPlacement weights : {WeightPlacement::kResident, WeightPlacement::kReturned}) {
    const BlindingOptions options = options_of(weights);
    Machines machines;
    machines.add("first");
    SmallTraining training(machines.pool({"first", "second"}), options);
    training.steps(2);
    const auto second = machines.add("second");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    int steps = 2;
    while (training.workers().active() < 2 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      training.step();
      ++steps;
    }
    ASSERT_EQ(training.workers().active(), 2U);
    machines.remove("first");
    training.step();
    EXPECT_GT(second->submitted(), 0);
    EXPECT_LT(relative_difference(training.state(), honest_state(options, steps + 1)), kRounding);
  }
}

TEST(WorkerPool, AWorkerThatIsNoLongerListedLeaves) {
  const BlindingOptions options = options_of(WeightPlacement::kResident);
  Machines machines;
  for (const char* name : {"a", "b", "c"}) machines.add(name);
  SmallTraining training(machines.pool({"a", "b"}), options);
  training.steps(3);
  training.workers().set_workers({"b", "c"});
  EXPECT_TRUE(state_of(training.workers(), "a") == MemberState::kLeft);
  training.steps(kSteps - 3);
  EXPECT_LT(relative_difference(training.state(), honest_state(options)), kRounding);
}

TEST(WorkerPool, ASlowWorkerGetsASmallerShare) {
  Machines machines;
  machines.add("fast")->be_slow(std::chrono::microseconds(500));
  machines.add("slow")->be_slow(std::chrono::microseconds(5'000));
  SmallTraining training(machines.pool({"fast", "slow"}), options_of(WeightPlacement::kReturned));
  training.steps(12);
  const auto& members = training.workers().members();
  EXPECT_GT(members[0].share, 1.5 * members[1].share);
  EXPECT_EQ(training.workers().active(), 2U);
}

}  // namespace worker_pool_test
}  // namespace tempo::offload
