#include "worker/collective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <future>
#include <random>
#include <thread>

#include "support/temp_folder.h"
#include "tempo/error.h"
#include "worker/executor.h"
#include "worker/session.h"

namespace tempo::worker {
namespace collective_test {

using contract::AllReduce;
using contract::Buffer;
using contract::ElementType;
using contract::Fetch;
using contract::JoinGroup;
using std::chrono::milliseconds;
using ::testing::HasSubstr;
using testing::message_of;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kTimeout{700};
constexpr milliseconds kSlack{1'500};  // of a busy machine
constexpr uint64_t kSeed = 23;

std::string fresh_name() {
  static int count = 0;
  return "group-" + std::to_string(++count);
}

template <typename T>
Buffer tensor(std::vector<int64_t> shape, ElementType type, const std::vector<T>& values) {
  Buffer buffer = Buffer::allocate({.type = type, .shape = std::move(shape)});
  EXPECT_EQ(buffer.bytes(), values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(buffer.data(), values.data(), buffer.bytes());
  return buffer;
}
Buffer floats(const std::vector<float>& values) {
  return tensor({static_cast<int64_t>(values.size())}, ElementType::kFloat32, values);
}

template <typename T = float>
std::vector<T> values_of(const Buffer& buffer) {
  std::vector<T> values(static_cast<size_t>(buffer.spec().elements()));
  if (!values.empty()) std::memcpy(values.data(), buffer.data(), buffer.bytes());
  return values;
}

/// Workers of one machine, each with an executor of its own.
class CollectiveTest : public ::testing::Test {
 protected:
  CollectiveTest() { std::signal(SIGPIPE, SIG_IGN); }

  void start(size_t count, milliseconds timeout = kTimeout) {
    for (size_t i = 0; i < count; ++i) {
      collectives_.push_back(make_collective({.listen = "127.0.0.1:0", .peers = {}, .timeout = timeout}));
      executors_.push_back(std::make_unique<Executor>("cpu", collectives_.back()));
    }
  }
  [[nodiscard]] JoinGroup group(const std::string& name, size_t rank, size_t size) const {
    return {collectives_[0]->address(), name, static_cast<uint32_t>(rank), static_cast<uint32_t>(size)};
  }
  /// What `work` says at each worker, all at the same time; a refusal is its reason.
  template <typename Work>
  std::vector<std::string> everywhere(const Work& work) {
    std::vector<std::future<std::string>> said;
    for (size_t i = 0; i < executors_.size(); ++i)
      said.push_back(std::async(std::launch::async, [this, &work, i]() -> std::string {
        try {
          work(*executors_[i], i);
          return "ok";
        } catch (const ProtocolError& error) {
          return error.what();
        }
      }));
    std::vector<std::string> all;
    for (auto& one : said) all.push_back(one.get());
    return all;
  }
  void join_all() {
    const std::string name = fresh_name();
    const size_t size = executors_.size();
    const auto said = everywhere([&](Executor& executor, size_t i) { executor.run(group(name, i, size)); });
    ASSERT_THAT(said, ::testing::Each("ok"));
  }
  std::vector<std::string> sum_all(contract::OperandId id) {
    return everywhere([id](Executor& executor, size_t) { executor.run(AllReduce{id}); });
  }
  Buffer fetch(size_t i, contract::OperandId id) { return executors_[i]->run(Fetch{id}); }

  std::vector<std::shared_ptr<Collective>> collectives_;
  std::vector<std::unique_ptr<Executor>> executors_;
};

TEST_F(CollectiveTest, SumsOfWholeNumbersAreExactAndTheReplyIsTheSquaredNorm) {
  for (const size_t count : {2U, 3U}) {
    collectives_.clear();
    executors_.clear();
    start(count);
    join_all();
    double factor = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto value = static_cast<float>(1 << (4 * i));
      factor += value;
      executors_[i]->put(1, tensor<float>({2, 3}, ElementType::kFloat32, {0, value, 2 * value, -value, 5 * value, 0}));
      executors_[i]->put(2, tensor<double>({1}, ElementType::kFloat64, {value * 1e9}));
    }
    std::vector<double> norms(count);
    const auto said = everywhere([&](Executor& executor, size_t i) {
      const Buffer reply = executor.run(AllReduce{1});
      ASSERT_EQ(reply.spec(), (contract::TensorSpec{ElementType::kFloat64, {1}}));
      norms[i] = values_of<double>(reply)[0];
      executor.run(AllReduce{2});
    });
    EXPECT_THAT(said, ::testing::Each("ok"));
    for (size_t i = 0; i < count; ++i) {
      const auto f = static_cast<float>(factor);
      EXPECT_EQ(values_of(fetch(i, 1)), (std::vector<float>{0, f, 2 * f, -f, 5 * f, 0}));
      EXPECT_EQ(fetch(i, 1).spec().shape, (std::vector<int64_t>{2, 3}));
      EXPECT_EQ(values_of<double>(fetch(i, 2)), std::vector<double>{factor * 1e9});
      EXPECT_DOUBLE_EQ(norms[i], 31 * factor * factor);
    }
  }
}

TEST_F(CollectiveTest, AllMembersGetTheSameBits) {
  start(3);
  join_all();
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  std::vector<double> expected(100'003);
  for (size_t i = 0; i < 3; ++i) {
    std::vector<float> values(expected.size());
    std::generate(values.begin(), values.end(), [&] { return normal(random); });
    std::transform(values.begin(), values.end(), expected.begin(), expected.begin(), std::plus<double>());
    executors_[i]->put(1, floats(values));
  }
  ASSERT_THAT(sum_all(1), ::testing::Each("ok"));
  const std::vector<float> first = values_of(fetch(0, 1));
  EXPECT_EQ(values_of(fetch(1, 1)), first);
  EXPECT_EQ(values_of(fetch(2, 1)), first);
  for (size_t k = 0; k < expected.size(); ++k) ASSERT_NEAR(first[k], expected[k], 3e-6) << "seed " << kSeed;
}

TEST_F(CollectiveTest, AWorkerCanJoinOneGroupAfterAnotherAndAGroupOfOneAlone) {
  start(2);
  for (int round = 0; round < 5; ++round) {
    join_all();
    for (auto& executor : executors_) executor->put(1, floats({1, 2}));
    ASSERT_THAT(sum_all(1), ::testing::Each("ok"));
    ASSERT_THAT(sum_all(1), ::testing::Each("ok"));
    EXPECT_EQ(values_of(fetch(1, 1)), (std::vector<float>{4, 8}));
  }
  executors_[0]->run(group(fresh_name(), 0, 1));
  executors_[0]->run(AllReduce{1});
  EXPECT_EQ(values_of(fetch(0, 1)), (std::vector<float>{4, 8}));
  EXPECT_THAT(message_of<ProtocolError>([&] { executors_[0]->run(AllReduce{9}); }), HasSubstr("is not stored"));
}

TEST_F(CollectiveTest, EmptyOperandsAreSummed) {
  start(2);
  join_all();
  for (auto& executor : executors_) executor->put(1, tensor<float>({0, 4}, ElementType::kFloat32, {}));
  EXPECT_THAT(sum_all(1), ::testing::Each("ok"));
}

TEST_F(CollectiveTest, OperandsOfDifferentShapeOrTypeAreRefusedByAllAndTheGroupGoesOn) {
  start(2);
  join_all();
  executors_[0]->put(1, floats({1, 2, 3, 4}));
  executors_[1]->put(1, tensor<float>({2, 2}, ElementType::kFloat32, {1, 2, 3, 4}));
  EXPECT_THAT(sum_all(1), ::testing::Each(HasSubstr("another member's has another shape or type")));
  executors_[1]->put(1, tensor<double>({4}, ElementType::kFloat64, {1, 2, 3, 4}));
  EXPECT_THAT(sum_all(1), ::testing::Each(HasSubstr("another member's has another shape or type")));
  EXPECT_EQ(values_of(fetch(0, 1)), (std::vector<float>{1, 2, 3, 4}));

  for (auto& executor : executors_) executor->put(2, tensor<uint16_t>({1}, ElementType::kBFloat16, {0x3f80}));
  EXPECT_THAT(sum_all(2), ::testing::Each(HasSubstr("BFloat16[1], expected float32 or float64")));

  executors_[1]->put(3, floats({1}));
  const auto said = sum_all(3);
  EXPECT_THAT(said[0], HasSubstr("the operand is not stored"));
  EXPECT_THAT(said[1], HasSubstr("another member does not have its operand"));

  executors_[1]->put(1, floats({1, 2, 3, 4}));
  EXPECT_THAT(sum_all(1), ::testing::Each("ok"));
  EXPECT_EQ(values_of(fetch(1, 1)), (std::vector<float>{2, 4, 6, 8}));
}

TEST_F(CollectiveTest, ASumWithASilentMemberIsRefusedInTimeAndLeavesTheOperandUnchanged) {
  start(2);
  join_all();
  executors_[0]->put(1, floats({1, 2}));
  const auto begin = Clock::now();
  EXPECT_THAT(message_of<ProtocolError>([&] { executors_[0]->run(AllReduce{1}); }),
              HasSubstr("the group is over: a member"));
  EXPECT_LT(Clock::now() - begin, kTimeout + kSlack);
  EXPECT_EQ(values_of(fetch(0, 1)), (std::vector<float>{1, 2}));
  EXPECT_THAT(message_of<ProtocolError>([&] { executors_[0]->run(AllReduce{1}); }), HasSubstr("the group is over"));
  executors_[1]->put(1, floats({1, 2}));
  EXPECT_THAT(message_of<ProtocolError>([&] { executors_[1]->run(AllReduce{1}); }), HasSubstr("the group is over"));
  join_all();
  EXPECT_THAT(sum_all(1), ::testing::Each("ok"));
}

TEST_F(CollectiveTest, ASumIsRefusedAtOnceIfAMemberLeaves) {
  start(2, milliseconds(20'000));
  join_all();
  executors_[0]->put(1, floats({1, 2}));
  const auto begin = Clock::now();
  auto waiting = std::async(std::launch::async,
                            [&] { return message_of<ProtocolError>([&] { executors_[0]->run(AllReduce{1}); }); });
  std::this_thread::sleep_for(milliseconds(100));
  executors_.pop_back();
  EXPECT_THAT(waiting.get(), HasSubstr("the group is over: a member was lost"));
  EXPECT_LT(Clock::now() - begin, milliseconds(10'000));
  EXPECT_EQ(values_of(fetch(0, 1)), (std::vector<float>{1, 2}));
}

TEST_F(CollectiveTest, LateMembersAreWaitedForUpToTheTimeLimit) {
  start(2);
  const std::string name = fresh_name();
  auto first = std::async(std::launch::async, [&] { executors_[0]->run(group(name, 0, 2)); });
  std::this_thread::sleep_for(milliseconds(200));
  executors_[1]->run(group(name, 1, 2));
  first.get();

  const std::string late = fresh_name();
  const auto begin = Clock::now();
  EXPECT_THAT(message_of<ProtocolError>([&] { executors_[0]->run(group(late, 0, 2)); }),
              HasSubstr("join_group refused: not all members came within 700 ms, in a group of 2"));
  EXPECT_THAT(message_of<ProtocolError>([&] { executors_[1]->run(group(late, 1, 2)); }),
              HasSubstr("the members did not reach each other within 700 ms"));
  EXPECT_LT(Clock::now() - begin, 2 * (kTimeout + kSlack));
  EXPECT_THAT(message_of<ProtocolError>([&] { executors_[1]->run(AllReduce{1}); }),
              HasSubstr("the session is in no group"));
  join_all();
}

TEST_F(CollectiveTest, TwoGroupsOfTheSameWorkersDoNotMix) {
  start(2);
  const Executor* const before = executors_[0].get();
  join_all();
  std::vector<std::unique_ptr<Executor>> others;
  others.push_back(std::make_unique<Executor>("cpu", collectives_[0]));
  others.push_back(std::make_unique<Executor>("cpu", collectives_[1]));
  executors_.swap(others);
  join_all();
  for (auto& executor : executors_) executor->put(1, floats({10}));
  for (auto& executor : others) executor->put(1, floats({1}));
  auto here = std::async(std::launch::async, [&] { return sum_all(1); });
  auto there = std::async(std::launch::async, [&] { others[0]->run(AllReduce{1}); });
  others[1]->run(AllReduce{1});
  there.get();
  EXPECT_THAT(here.get(), ::testing::Each("ok"));
  EXPECT_EQ(values_of(fetch(0, 1)), std::vector<float>{20});
  EXPECT_EQ(others[0].get(), before);
  EXPECT_EQ(values_of(others[0]->run(Fetch{1})), std::vector<float>{2});
}

TEST_F(CollectiveTest, AWorkerConnectsOnlyToItsPeers) {
  start(2);
  const auto refusal = [&](const std::string& rendezvous, uint32_t rank, Executor& executor) {
    const auto begin = Clock::now();
    const std::string reason = message_of<ProtocolError>([&] {
      executor.run(JoinGroup{rendezvous, fresh_name(), rank, 2});
    });
    EXPECT_LT(Clock::now() - begin, milliseconds(200)) << "it tried";
    return reason;
  };
  for (const char* elsewhere : {"192.0.2.1:80", "worker.example:80", "[2001:db8::1]:80", "0.0.0.0:80", "127.1:80",
                                "localhost.example:80", "[::ffff:192.0.2.1]:80"})
    EXPECT_THAT(refusal(elsewhere, 1, *executors_[0]), HasSubstr("is not one of this worker's peers")) << elsewhere;
  EXPECT_THAT(refusal("nonsense", 1, *executors_[0]), HasSubstr("expected HOST:PORT"));
  EXPECT_THAT(refusal(collectives_[1]->address(), 0, *executors_[0]), HasSubstr("not this worker's address"));

  Executor picky("cpu", make_collective({.listen = "127.0.0.1:0", .peers = {"Worker-7.example", "::1"}}));
  EXPECT_THAT(refusal("127.0.0.1:80", 1, picky), HasSubstr("is not one of this worker's peers"));
  EXPECT_THAT(refusal("worker-8.example:80", 1, picky), HasSubstr("is not one of this worker's peers"));
}

TEST_F(CollectiveTest, JoiningIsRefusedInTimeIfNobodyIsAtTheRendezvous) {
  start(1);
  std::string address;
  {
    const auto gone = make_collective({.listen = "127.0.0.1:0", .peers = {}, .timeout = kTimeout});
    address = gone->address();
  }
  const auto begin = Clock::now();
  EXPECT_THAT(message_of<ProtocolError>([&] {
                executors_[0]->run(JoinGroup{address, "g", 1, 2});
              }),
              HasSubstr("the rendezvous did not answer within 700 ms"));
  EXPECT_LT(Clock::now() - begin, kTimeout + kSlack);
}

TEST_F(CollectiveTest, AWorkerWithoutCollectivesRefusesToJoinAndToSum) {
  Executor executor("cpu");
  executor.put(1, floats({1}));
  EXPECT_THAT(message_of<ProtocolError>([&] {
                executor.run(JoinGroup{"127.0.0.1:1", "g", 0, 1});
              }),
              HasSubstr("join_group refused: this worker takes no part in sums"));
  EXPECT_THAT(message_of<ProtocolError>([&] { executor.run(AllReduce{1}); }), HasSubstr("the session is in no group"));
}

TEST_F(CollectiveTest, AddressesThatCannotBeListenedAtAreRefused) {
  for (const char* address : {"nonsense", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"})
    EXPECT_THROW(make_collective({.listen = address, .peers = {}, .timeout = kTimeout}), InputError) << address;
  EXPECT_THROW(make_collective({.listen = "127.0.0.1:0", .peers = {"a b"}}), InputError);
  const auto first = make_collective({.listen = "127.0.0.1:0", .peers = {}});
  EXPECT_THAT(message_of<InputError>([&] { make_collective({.listen = first->address(), .peers = {}}); }),
              HasSubstr("the port is in use"));
}

/// Keeps the reasons.
class Answers final : public Session::Listener {
 public:
  void replied(uint64_t, Buffer) override { add("ok"); }
  void refused(uint64_t, const std::string& reason) override { add(reason); }
  std::vector<std::string> wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return answers_.size() >= count; });
    return answers_;
  }

 private:
  void add(std::string what) {
    {
      const std::lock_guard lock(mutex_);
      answers_.push_back(std::move(what));
    }
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> answers_;
};

TEST_F(CollectiveTest, ASessionGoesOnAfterARefusalAndTheOtherMembersAreTold) {
  start(2);
  Answers said[2];
  const SessionLimits limits[] = {{.memory_bytes = 16}, {}};
  std::vector<std::unique_ptr<Session>> sessions;
  for (size_t i = 0; i < 2; ++i)
    sessions.push_back(
        std::make_unique<Session>("cpu", 1, limits[i], said[i], std::make_shared<SessionMonitor>(), collectives_[i]));
  const std::string name = fresh_name();
  for (size_t i = 0; i < 2; ++i) {
    sessions[i]->put(1, floats({1, 2, 3}));
    sessions[i]->put(2, floats({1, 2}));  // no room in the first
    sessions[i]->submit(1, group(name, i, 2));
    sessions[i]->submit(2, AllReduce{2});
    sessions[i]->submit(3, AllReduce{1});
    sessions[i]->submit(4, Fetch{1});
  }
  const auto first = said[0].wait_for(4), second = said[1].wait_for(4);
  ASSERT_EQ(first.size(), 4U);
  ASSERT_EQ(second.size(), 4U);
  EXPECT_THAT(first[1], HasSubstr("operand 2 of 8 bytes does not fit"));
  EXPECT_THAT(second[1], HasSubstr("another member does not have its operand"));
  for (const auto& answers : {first, second})
    EXPECT_THAT((std::vector<std::string>{answers[0], answers[2], answers[3]}), ::testing::Each("ok"));
}

TEST_F(CollectiveTest, ASessionCanEndDuringASumAndDuringAJoin) {
  start(2);
  Answers said[2];
  const std::string name = fresh_name();
  auto first = std::make_unique<Session>("cpu", 1, SessionLimits{}, said[0], std::make_shared<SessionMonitor>(),
                                         collectives_[0]);
  auto second = std::make_unique<Session>("cpu", 1, SessionLimits{}, said[1], std::make_shared<SessionMonitor>(),
                                          collectives_[1]);
  first->submit(1, group(name, 0, 2));
  second->submit(1, group(name, 1, 2));
  first->put(1, floats({1}));
  first->submit(2, AllReduce{1});
  second->submit(2, group(fresh_name(), 1, 2));
  ASSERT_EQ(said[0].wait_for(1)[0], "ok");
  ASSERT_EQ(said[1].wait_for(1)[0], "ok");
  const auto begin = Clock::now();
  first.reset();
  second.reset();
  EXPECT_LT(Clock::now() - begin, kTimeout + kSlack);
}

}  // namespace collective_test
}  // namespace tempo::worker
