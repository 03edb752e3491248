// The shm:// transport against a worker in another process.
#include "offload/transport/shm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

#include "offload/shm_peers.h"
#include "offload/transport/inprocess.h"
#include "support/process.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace shm_test {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using testing::kLong;
using testing::message_of;
using testing::Process;

constexpr uint64_t kSeed = 7;

class ShmTransport : public ::testing::Test {
 protected:
  void start(int segment_mib = 64, int max_sessions = 4) {
    process_ = std::make_unique<Process>(std::vector<std::string>{
        TEMPO_SHM_TEST_SERVER, name_, std::to_string(segment_mib), std::to_string(max_sessions)});
    worker_ = make_shm_worker(name_, options_);
  }

  Buffer filled(std::vector<int64_t> shape, float value) {
    Buffer buffer = worker_->allocate({.shape = std::move(shape)});
    auto* floats = reinterpret_cast<float*>(buffer.data());
    std::fill(floats, floats + buffer.spec().elements(), value);
    return buffer;
  }

  Buffer fetch(OperandId id) { return worker_->submit(Fetch{id}).get(); }

  static float first(const Buffer& buffer) {
    float value = 0;
    std::memcpy(&value, buffer.data(), sizeof value);
    return value;
  }

  std::string name_ = testing::new_shm_name();
  ShmOptions options_ = testing::kPatient;
  std::unique_ptr<Process> process_;
  std::shared_ptr<Worker> worker_;
};

Buffer random_operand(Worker& worker, std::vector<int64_t> shape, std::mt19937& random) {
  Buffer buffer = worker.allocate({.shape = std::move(shape)});
  std::normal_distribution<float> normal;
  auto* floats = reinterpret_cast<float*>(buffer.data());
  std::generate_n(floats, buffer.spec().elements(), [&] { return normal(random); });
  return buffer;
}

/// Forward, both gradients, a kept gradient, an update and a fetch; all replies in order.
std::vector<std::vector<std::byte>> train_once(Worker& worker, const Product& product, std::vector<int64_t> x,
                                               std::vector<int64_t> w, std::vector<int64_t> y) {
  std::mt19937 random(kSeed);
  worker.put(1, random_operand(worker, x, random));
  worker.put(2, random_operand(worker, w, random));
  worker.put(3, random_operand(worker, y, random));
  worker.put(4, random_operand(worker, w, random));
  std::vector<std::future<Buffer>> replies;
  replies.push_back(worker.submit(Forward{.product = product, .x = 1, .w = 2}));
  replies.push_back(worker.submit(InputGradient{.product = product, .dy = 3, .w = 2, .x_shape = x}));
  replies.push_back(worker.submit(WeightGradient{.product = product, .x = 1, .dy = 3, .w_shape = w}));
  replies.push_back(worker.submit(WeightGradient{.product = product, .x = 1, .dy = 3, .w_shape = w, .keep_as = 5}));
  replies.push_back(worker.submit(Update{.w = 2, .velocity = 4, .dw = 5, .step = 1, .learning_rate = 0.1}));
  replies.push_back(worker.submit(Fetch{2}));
  replies.push_back(worker.submit(Forward{.product = product, .x = 1, .w = 2, .reply_type = ElementType::kBFloat16}));
  std::vector<std::vector<std::byte>> bytes;
  for (auto& reply : replies) {
    const Buffer result = reply.get();
    bytes.emplace_back(result.data(), result.data() + result.bytes());
  }
  worker.free({1, 2, 3, 4, 5});
  return bytes;
}

TEST_F(ShmTransport, ResultsEqualTheEmbeddedWorkersBitForBit) {
  start();
  const auto embedded = make_inprocess_worker("cpu", 1);
  const Product linear, conv = {.kind = ProductKind::kConv2d, .stride_h = 2, .stride_w = 2},
                        matmul = {.kind = ProductKind::kMatmul};
  EXPECT_EQ(train_once(*worker_, linear, {64, 48}, {32, 48}, {64, 32}),
            train_once(*embedded, linear, {64, 48}, {32, 48}, {64, 32}));
  EXPECT_EQ(train_once(*worker_, conv, {8, 9, 9, 16}, {24, 3, 3, 16}, {8, 4, 4, 24}),
            train_once(*embedded, conv, {8, 9, 9, 16}, {24, 3, 3, 16}, {8, 4, 4, 24}));
  EXPECT_EQ(train_once(*worker_, matmul, {4, 16, 8}, {4, 8, 12}, {4, 16, 12}),
            train_once(*embedded, matmul, {4, 16, 8}, {4, 8, 12}, {4, 16, 12}));
}

TEST_F(ShmTransport, TheDescriptionIsTheWorkers) {
  start();
  const WorkerDescription description = worker_->describe();
  EXPECT_EQ(description.name, "shm://" + name_);
  EXPECT_EQ(description.device, "cpu");
  EXPECT_THAT(description.version, HasSubstr("LibTorch"));
  EXPECT_GT(description.memory_bytes, 0U);
}

TEST_F(ShmTransport, MemoryIsSharedAndAligned) {
  start();
  const Buffer operand = filled({3, 5}, 2);
  EXPECT_TRUE(operand.is_shared());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(operand.data()) % 64, 0U);
  worker_->put(1, operand);
  const Buffer reply = fetch(1);
  EXPECT_TRUE(reply.is_shared());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(reply.data()) % 64, 0U);
}

TEST_F(ShmTransport, OperandsInOrdinaryMemoryAreCopied) {
  start();
  Buffer ordinary = Buffer::allocate({.shape = {100}});
  std::memset(ordinary.data(), 0, ordinary.bytes());
  worker_->put(1, ordinary);
  worker_->put(2, filled({100}, 5));
  const Buffer reply = fetch(2);
  worker_->put(3, reply);
  EXPECT_EQ(first(fetch(1)), 0);
  EXPECT_EQ(first(fetch(3)), 5);
}

TEST_F(ShmTransport, ManyOperationsInFlightKeepTheirOrder) {
  start();
  constexpr int kCount = 3000;  // more than are let through at a time
  for (int i = 1; i <= kCount; ++i) worker_->put(i, filled({1}, static_cast<float>(i)));
  std::vector<std::future<Buffer>> replies;
  for (int i = 1; i <= kCount; ++i) replies.push_back(worker_->submit(Fetch{static_cast<OperandId>(i)}));
  for (int i = 1; i <= kCount; ++i) EXPECT_EQ(first(replies[i - 1].get()), static_cast<float>(i));
}

TEST_F(ShmTransport, FreedMemoryIsReusedOverThousandsOfOperations) {
  start(16);  // 6 MiB for operands: room for about a hundred of these
  for (OperandId i = 1; i <= 10'000; ++i) {
    worker_->put(i, filled({64, 256}, static_cast<float>(i)));
    const Buffer reply = fetch(i);
    ASSERT_EQ(first(reply), static_cast<float>(i));
    worker_->free({i});
  }
}

TEST_F(ShmTransport, ABufferPutTwiceStaysUntilBothAreFreed) {
  options_.memory = milliseconds(100);
  start(16);
  {
    const Buffer large = filled({4 << 20 >> 2}, 3);
    worker_->put(1, large);
    worker_->put(2, large);
  }
  worker_->free({1});
  EXPECT_EQ(first(fetch(2)), 3);
  EXPECT_THROW(worker_->allocate({.shape = {4 << 20 >> 2}}), RunError);
  worker_->free({2});
  EXPECT_NO_THROW(worker_->allocate({.shape = {4 << 20 >> 2}}));
}

TEST_F(ShmTransport, ARefusalDoesNotEndTheSession) {
  start();
  worker_->put(1, filled({2, 3}, 1));
  worker_->put(2, filled({2, 4}, 1));
  auto unknown = worker_->submit(Fetch{77});
  auto misfit = worker_->submit(Forward{.product = {}, .x = 1, .w = 2});
  auto fine = worker_->submit(Fetch{1});
  EXPECT_THAT(message_of<ProtocolError>([&] { unknown.get(); }), HasSubstr("operand 77 is not stored"));
  EXPECT_THAT(message_of<ProtocolError>([&] { misfit.get(); }), HasSubstr("refused"));
  EXPECT_EQ(first(fine.get()), 1);
}

TEST_F(ShmTransport, LargeAndEmptyTensorsArrive) {
  start(512);
  worker_->put(1, filled({64 << 20 >> 2}, 6));
  worker_->put(2, filled({0, 7}, 0));
  const Buffer large = fetch(1);
  EXPECT_EQ(large.bytes(), size_t{64} << 20);
  EXPECT_EQ(std::memcmp(large.data(), large.data() + 4, large.bytes() - 4), 0);
  EXPECT_EQ(first(large), 6);
  EXPECT_EQ(fetch(2).spec().shape, (std::vector<int64_t>{0, 7}));
}

TEST_F(ShmTransport, AFullAreaIsReported) {
  options_.memory = milliseconds(50);
  start(16);
  EXPECT_THAT(message_of<RunError>([&] { worker_->allocate({.shape = {16 << 20 >> 2}}); }),
              HasSubstr("no operand memory for 16777216 bytes (0 of"));
  const Buffer held = filled({5 << 20 >> 2}, 1);
  EXPECT_THAT(message_of<RunError>([&] { worker_->allocate({.shape = {4 << 20 >> 2}}); }),
              HasSubstr("start the worker with a larger segment"));
  // The reply area is smaller: what fits as an operand need not fit as a reply.
  worker_->put(1, held);
  EXPECT_THAT(message_of<ProtocolError>([&] { fetch(1); }), HasSubstr("no reply memory for 5242880 bytes"));
  worker_->put(2, filled({1}, 4));
  EXPECT_EQ(first(fetch(2)), 4);
}

TEST_F(ShmTransport, AWorkerThatDiesIsLostWithoutHanging) {
  start(512);
  worker_->put(1, filled({2048, 2048}, 1));
  const Buffer reply = fetch(1);
  std::vector<std::future<Buffer>> pending;
  for (int i = 0; i < 200; ++i) pending.push_back(worker_->submit(Forward{.product = {}, .x = 1, .w = 1}));
  process_->kill();
  int lost = 0;
  for (auto& future : pending) {
    ASSERT_EQ(future.wait_for(kLong), std::future_status::ready);
    try {
      future.get();
    } catch (const WorkerLostError& error) {
      EXPECT_THAT(error.what(), HasSubstr("the worker ended"));
      ++lost;
    }
  }
  EXPECT_GT(lost, 0);
  EXPECT_THROW(worker_->submit(Fetch{1}), WorkerLostError);
  EXPECT_THROW(worker_->put(2, reply), WorkerLostError);
  EXPECT_THROW(worker_->allocate({.shape = {1}}), WorkerLostError);
  EXPECT_THROW(worker_->free({1}), WorkerLostError);
  EXPECT_EQ(first(reply), 1) << "what came before it died stays readable";
}

TEST_F(ShmTransport, AllocationStopsWaitingWhenTheWorkerDies) {
  start(16);
  const Buffer held = filled({6 << 20 >> 2}, 1);
  std::thread killing([this] {
    std::this_thread::sleep_for(milliseconds(100));
    process_->kill();
  });
  EXPECT_THROW(worker_->allocate({.shape = {6 << 20 >> 2}}), WorkerLostError);
  killing.join();
}

TEST_F(ShmTransport, BuffersOutliveTheWorkersHandle) {
  start();
  const Buffer operand = filled({10}, 9);
  worker_->put(1, operand);
  const Buffer reply = fetch(1);
  auto pending = worker_->submit(Fetch{1});
  worker_.reset();
  EXPECT_EQ(first(reply), 9);
  EXPECT_EQ(first(operand), 9);
  ASSERT_EQ(pending.wait_for(kLong), std::future_status::ready);
}

TEST_F(ShmTransport, AMasterCannotFetchOperandsOfAnother) {
  start(16, 2);
  const auto other = make_shm_worker(name_, options_);
  worker_->put(1, filled({4}, 1));
  EXPECT_THROW(other->submit(Fetch{1}).get(), ProtocolError);
  EXPECT_EQ(first(fetch(1)), 1);
}

TEST_F(ShmTransport, SessionsBeyondTheLimitAreRefusedUntilOneEnds) {
  start(16, 1);
  EXPECT_THAT(message_of<WorkerLostError>([&] { make_shm_worker(name_, options_); }),
              HasSubstr("it serves 1 masters already"));
  for (int i = 0; i < 20; ++i) {
    worker_.reset();
    for (int tries = 0; worker_ == nullptr && tries < 1000; ++tries) {
      try {
        worker_ = make_shm_worker(name_, options_);
      } catch (const WorkerLostError&) {
        std::this_thread::sleep_for(milliseconds(5));  // the last session is still being cleared away
      }
    }
    ASSERT_NE(worker_, nullptr);
    worker_->put(1, filled({1 << 20 >> 2}, 1));
  }
}

TEST_F(ShmTransport, ConnectingToNobodyOrABadNameFailsWithAReason) {
  options_.connect = milliseconds(50);
  EXPECT_THAT(message_of<WorkerLostError>([&] { make_shm_worker(name_, options_); }), HasSubstr("no worker listens"));
  EXPECT_THROW(make_shm_worker("not/a name", options_), InputError);
}

}  // namespace shm_test
}  // namespace tempo::offload
