// A liar among honest workers: found, named, left out; the result is what honest workers give.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "audit/lying_worker.h"
#include "offload/pool/small_training.h"
#include "offload/transport/inprocess.h"
#include "support/faulty_worker.h"
#include "support/temp_folder.h"

namespace tempo::audit {
namespace pool_lies_test {

using offload::MemberState;
using offload::WorkerPool;
using testing::FaultyWorker;
using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_difference;
using testing::SmallTraining;

constexpr int kSteps = 8;
constexpr double kSize = 0.5;  // of a row's norm

struct Workers {
  std::map<std::string, std::shared_ptr<contract::Worker>> by_name;
  std::shared_ptr<LyingWorker> liar;

  /// @param honest names; the liar is "liar" and stands at `place` among them.
  std::unique_ptr<WorkerPool> pool(std::vector<std::string> honest, size_t place, uint64_t seed) {
    for (const auto& name : honest) by_name[name] = make(name);
    liar = std::make_shared<LyingWorker>(make("liar"), seed);
    by_name["liar"] = liar;
    honest.insert(honest.begin() + static_cast<ptrdiff_t>(place), "liar");
    const auto connect = [this](const std::string& name) { return by_name.at(name); };
    return std::make_unique<WorkerPool>(honest, connect, connect);
  }
  static std::shared_ptr<contract::Worker> make(const std::string& name) {
    return std::make_shared<FaultyWorker>(offload::make_inprocess_worker("cpu", 1), name);
  }
};

BlindingOptions options_of(WeightPlacement weights) {
  BlindingOptions options;
  options.weights = weights;
  options.rekey_interval = 4;
  return options;
}

std::vector<float> honest_state(const BlindingOptions& options) {
  SmallTraining training(std::make_unique<WorkerPool>(offload::make_inprocess_worker("cpu", 1)), options);
  training.steps(kSteps);
  return training.state();
}

class PoolLies : public ::testing::TestWithParam<std::tuple<Lie, WeightPlacement>> {};

TEST_P(PoolLies, TheLiarIsLeftOutAndTheResultIsRight) {
  const auto [lie, weights] = GetParam();
  const BlindingOptions options = options_of(weights);
  const std::vector<float> expected = honest_state(options);
  const bool needs_residence = lie == Lie::kDropUpdate || lie == Lie::kAlterWeight;
  if (needs_residence && weights == WeightPlacement::kReturned) return;
  for (const size_t honest : {1, 2})
    for (const int opportunity : {0, 1, 4}) {
      SCOPED_TRACE(fmt::format("{} honest workers, opportunity {}", honest, opportunity));
      Workers workers;
      SmallTraining training(
          workers.pool(honest == 1 ? std::vector<std::string>{"a"} : std::vector<std::string>{"a", "b"}, honest - 1,
                       100 + static_cast<uint64_t>(opportunity)),
          options);
      training.step();
      workers.liar->arm(lie, kSize, opportunity);
      for (int i = 1; i < kSteps; ++i) {
        workers.liar->end_pass();
        training.step();
      }
      EXPECT_LT(relative_difference(training.state(), expected), 1e-5);
      ASSERT_TRUE(workers.liar->has_lied());
      // A replica that went wrong right before keys change is replaced before it was used.
      if (needs_residence && opportunity == 4) continue;
      for (const offload::Member& member : training.workers().members())
        EXPECT_TRUE(member.state == (member.uri == "liar" ? MemberState::kQuarantined : MemberState::kActive))
            << member.uri;
    }
}

INSTANTIATE_TEST_SUITE_P(Lies, PoolLies,
                         ::testing::Combine(::testing::Values(Lie::kElement, Lie::kSample, Lie::kReplay,
                                                              Lie::kDropUpdate, Lie::kAlterWeight),
                                            ::testing::Values(WeightPlacement::kResident, WeightPlacement::kReturned)));

TEST(PoolLies, TwoLiarsOfThreeWorkersAreLeftOut) {
  const BlindingOptions options = options_of(WeightPlacement::kReturned);
  Workers workers;
  auto pool = workers.pool({"a"}, 0, 1);
  const auto second = std::make_shared<LyingWorker>(Workers::make("second"), 2);
  workers.by_name["second"] = second;
  pool->set_workers({"liar", "a", "second"});
  SmallTraining training(std::move(pool), options);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (training.workers().active() < 3 && std::chrono::steady_clock::now() < deadline) {
    training.workers().begin_step();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  workers.liar->arm(Lie::kElement, kSize, 0);
  second->arm(Lie::kElement, kSize, 0);
  training.steps(kSteps);
  EXPECT_LT(relative_difference(training.state(), honest_state(options)), 1e-5);
  EXPECT_EQ(training.workers().active(), 1U);
}

TEST(PoolLies, ALieOfTheOnlyWorkerEndsTheStep) {
  Workers workers;
  SmallTraining training(workers.pool({}, 0, 3), options_of(WeightPlacement::kReturned));
  workers.liar->arm(Lie::kElement, kSize, 0);
  EXPECT_THAT(message_of<IntegrityError>([&] { training.step(); }), HasSubstr("from liar is not the product"));
}

class SliceLies : public ::testing::TestWithParam<int> {
 protected:
  static constexpr int64_t kScale = 8;  // 1,680 and 320 rows
  SliceLies() : options_(options_of(WeightPlacement::kReturned)) {
    options_.protection = "permuted";
    options_.slices = 4;
  }
  /// @return the state after two steps, the second of which holds the lie: it has that step's results
  std::vector<float> state_after_a_lie(int opportunity) {
    Workers workers;
    SmallTraining training(workers.pool({}, 0, 30 + static_cast<uint64_t>(opportunity)), options_, kScale);
    training.step();
    workers.liar->arm(Lie::kElement, kSize, opportunity);
    workers.liar->end_pass();
    training.step();
    EXPECT_TRUE(workers.liar->has_lied());
    return training.state();
  }
  std::vector<float> honest_state() {
    SmallTraining training(std::make_unique<WorkerPool>(offload::make_inprocess_worker("cpu", 1)), options_, kScale);
    training.steps(2);
    return training.state();
  }
  BlindingOptions options_;
};

/// Every slice of a batch is as good a place to lie as the whole. Of a row of an input's gradient, elements of the
/// padding are dropped: a lie there goes unseen, and changes nothing.
TEST_P(SliceLies, AWrongElementInASliceIsFoundOrChangesNothing) {
  std::vector<float> state;
  try {
    state = state_after_a_lie(GetParam());
  } catch (const IntegrityError& error) {
    EXPECT_THAT(error.what(), HasSubstr("from liar is not the product"));
    return;
  }
  EXPECT_LT(relative_difference(state, honest_state()), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Opportunities, SliceLies, ::testing::Values(0, 1, 2, 3, 4, 6, 8));

}  // namespace pool_lies_test
}  // namespace tempo::audit
