#include "worker/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <mutex>

#include "support/temp_folder.h"
#include "tempo/error.h"
#include "worker/executor.h"
#include "worker/recording_monitor.h"

namespace tempo::worker {
namespace session_test {

using contract::Buffer;
using ::testing::HasSubstr;
using testing::message_of;

Buffer filled(std::vector<int64_t> shape, float value) {
  Buffer buffer = Buffer::allocate({.shape = std::move(shape)});
  for (int64_t i = 0; i < buffer.spec().elements(); ++i) std::memcpy(buffer.data() + 4 * i, &value, sizeof value);
  return buffer;
}

/// Answers in the order in which they came.
class Answers final : public Session::Listener {
 public:
  void replied(uint64_t number, Buffer) override { add(number, "ok"); }
  void refused(uint64_t number, const std::string& reason) override { add(number, reason); }

  std::vector<std::pair<uint64_t, std::string>> wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return answers_.size() >= count; });
    return answers_;
  }

 private:
  void add(uint64_t number, const std::string& what) {
    {
      const std::lock_guard lock(mutex_);
      answers_.emplace_back(number, what);
    }
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<uint64_t, std::string>> answers_;
};

TEST(WorkerSession, AnswersComeInOrderAndASessionGoesOnAfterARefusal) {
  Answers answers;
  Session session("cpu", 1, {}, answers);
  session.put(1, filled({4, 8}, 1));
  session.put(2, filled({3, 8}, 2));
  session.submit(1, contract::Forward{.product = {}, .x = 1, .w = 2});
  session.submit(2, contract::Forward{.product = {}, .x = 1, .w = 77});
  session.free({1});
  session.submit(3, contract::Fetch{.operand = 1});
  session.submit(4, contract::Fetch{.operand = 2});
  const auto seen = answers.wait_for(4);
  ASSERT_EQ(seen.size(), 4U);
  EXPECT_EQ(seen[0], (std::pair<uint64_t, std::string>{1, "ok"}));
  EXPECT_THAT(seen[1].second, HasSubstr("operand 77 is not stored"));
  EXPECT_THAT(seen[2].second, HasSubstr("operand 1 is not stored"));
  EXPECT_EQ(seen[3], (std::pair<uint64_t, std::string>{4, "ok"}));
}

TEST(WorkerSession, TheMonitorIsToldOfAnOperationBeforeItIsAnswered) {
  Answers answers;
  testing::RecordingMonitor monitor;
  const auto said = [&](const char* what) { return ::testing::Contains(what).Times(1); };
  {
    Session session("cpu", 1, {.memory_bytes = 1000}, answers, monitor.session_began("test"));
    session.put(1, filled({4, 8}, 1));
    session.put(2, filled({3, 8}, 2));
    session.put(3, filled({240}, 2));  // does not fit
    session.submit(1, contract::Forward{.product = {}, .x = 1, .w = 2});
    session.submit(2, contract::Fetch{.operand = 77});
    session.submit(3, contract::Update{.w = 1, .velocity = 3, .dw = 1, .step = 9});
    session.submit(4, contract::Forward{.product = {}, .x = 1, .w = 77});
    answers.wait_for(4);
    const auto heard = monitor.heard();
    EXPECT_THAT(heard, said("received 960"));
    EXPECT_THAT(heard, ::testing::Contains("stored 224"));
    EXPECT_THAT(heard, said("done 1 kind 0 48"));
    EXPECT_THAT(heard, said("refused 2 kind 4 2"));
    EXPECT_THAT(heard, said("refused 3 kind 3 step 9 0"));
    EXPECT_THAT(heard, said("refused 4 kind 0 2"));
  }
}

TEST(WorkerSession, OperandsBeyondTheMemoryLimitAreRefusedAndNamed) {
  Answers answers;
  Session session("cpu", 1, {.memory_bytes = 1000}, answers);
  EXPECT_THAT(message_of<ProtocolError>([&] { session.put(1, filled({1000}, 1)); }),
              HasSubstr("4000 bytes, expected at most 1000"));
  session.put(1, filled({150}, 1));
  session.put(2, filled({150}, 1));
  session.submit(1, contract::Fetch{.operand = 1});
  session.submit(2, contract::Fetch{.operand = 2});
  session.free({1});
  session.put(2, filled({150}, 1));
  session.submit(3, contract::Fetch{.operand = 2});
  const auto seen = answers.wait_for(3);
  ASSERT_EQ(seen.size(), 3U);
  EXPECT_EQ(seen[0].second, "ok");
  EXPECT_THAT(seen[1].second, HasSubstr("operand 2 of 600 bytes does not fit: 600 of 1000 bytes are in use"));
  EXPECT_EQ(seen[2].second, "ok");
}

TEST(WorkerSession, TheNumberOfWaitingOperationsIsBounded) {
  Answers answers;
  Session session("cpu", 1, {.waiting_operations = 2}, answers);
  session.put(1, filled({512, 512}, 1));
  const auto flood = [&] {
    for (uint64_t i = 1; i < 10'000; ++i) session.submit(i, contract::Forward{.product = {}, .x = 1, .w = 1});
  };
  EXPECT_THAT(message_of<ProtocolError>(flood), HasSubstr("in waiting, expected at most 2"));
}

TEST(WorkerSession, TheNumberOfOperandsIsBoundedHoweverSmallTheyAre) {
  Answers answers;
  Session session("cpu", 1, {.operands = 3}, answers);
  for (contract::OperandId id = 1; id <= 20; ++id) session.put(id, filled({0}, 0));
  session.submit(1, contract::Fetch{.operand = 3});
  session.submit(2, contract::Fetch{.operand = 4});
  session.put(2, filled({1}, 0));  // replaces
  session.free({1});
  session.put(4, filled({0}, 0));
  session.submit(3, contract::Fetch{.operand = 2});
  session.submit(4, contract::Fetch{.operand = 4});
  const auto seen = answers.wait_for(4);
  ASSERT_EQ(seen.size(), 4U);
  EXPECT_EQ(seen[0].second, "ok");
  EXPECT_THAT(seen[1].second, HasSubstr("operand 4 does not fit: 3 operands are stored"));
  EXPECT_EQ(seen[2].second, "ok");
  EXPECT_EQ(seen[3].second, "ok");
}

TEST(WorkerSession, ResultsAndKeptGradientsCountTowardsTheMemoryLimit) {
  Answers answers;
  Session session("cpu", 1, {.memory_bytes = 4096}, answers);
  session.put(1, filled({100, 1}, 1));
  session.put(2, filled({1, 20}, 1));
  session.put(3, filled({1, 36}, 1));
  session.submit(1, contract::Forward{.product = {}, .x = 1, .w = 1});
  session.submit(2, contract::WeightGradient{.product = {}, .x = 3, .dy = 2, .w_shape = {20, 36}, .keep_as = 4});
  session.submit(3, contract::WeightGradient{.product = {}, .x = 3, .dy = 2, .w_shape = {20, 36}, .keep_as = 4});
  session.submit(4, contract::WeightGradient{.product = {}, .x = 3, .dy = 2, .w_shape = {20, 36}, .keep_as = 5});
  const auto seen = answers.wait_for(4);
  ASSERT_EQ(seen.size(), 4U);
  EXPECT_THAT(seen[0].second, HasSubstr("forward with a result of 40000 bytes refused, expected at most 4096"));
  EXPECT_EQ(seen[1].second, "ok");
  EXPECT_EQ(seen[2].second, "ok") << "it replaces the one of before";
  EXPECT_THAT(seen[3].second, HasSubstr("operand 5 of 2880 bytes does not fit: 3504 of 4096 bytes are in use"));
}

TEST(WorkerSession, NoOperationIsRefusedIfTheServerWaitsForRoom) {
  Answers answers;
  Session session("cpu", 1, {.waiting_operations = 2}, answers);
  session.put(1, filled({64, 64}, 1));
  for (uint64_t i = 1; i <= 500; ++i) {
    ASSERT_TRUE(session.wait_for_room(std::chrono::seconds(20)));
    session.submit(i, contract::Forward{.product = {}, .x = 1, .w = 1});
  }
  EXPECT_EQ(answers.wait_for(500).size(), 500U);
}

TEST(WorkerSession, ASessionCanEndWhileOperationsWait) {
  Answers answers;
  Session session("cpu", 1, {}, answers);
  session.put(1, filled({512, 512}, 1));
  for (uint64_t i = 1; i < 200; ++i) session.submit(i, contract::Forward{.product = {}, .x = 1, .w = 1});
}

TEST(WorkerSession, UnknownDevicesAreRefused) {
  Answers answers;
  EXPECT_THROW(Session("abacus", 1, {}, answers), InputError);
}

/// Refuses all: what carries out operations need not be LibTorch.
class Refusing final : public Arithmetic {
 public:
  Completion put(contract::OperandId, Buffer) override { return {}; }
  void free(const std::vector<contract::OperandId>&) override {}
  Started start(const contract::Operation&, const Place&) override { throw ProtocolError("not today"); }
};

TEST(WorkerSession, OperationsAreCarriedOutByTheArithmeticThatTheCallerBrings) {
  Answers answers;
  Session session(std::make_unique<Refusing>(), 1, {}, answers, std::make_shared<SessionMonitor>());
  session.put(1, filled({4, 8}, 1));
  session.submit(1, contract::Forward{.product = {}, .x = 1, .w = 1});
  EXPECT_EQ(answers.wait_for(1).at(0).second, "not today");
}

}  // namespace session_test
}  // namespace tempo::worker
