// What every transport must do alike, whatever is between master and worker. A new transport is one line of
// kTransports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <thread>

#include "offload/transport_servers.h"
#include "offload/worker_factory.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace transport_conformance_test {

using ::testing::HasSubstr;
using testing::message_of;

constexpr uint64_t kSeed = 11;
constexpr std::chrono::seconds kLong{60};

class TransportConformance : public ::testing::TestWithParam<testing::Transport> {
 protected:
  /// One worker serves all tests of a transport but those that end it: their sessions share nothing else.
  void SetUp() override {
    std::unique_ptr<testing::WorkerProcess>& shared = shared_[GetParam().name];
    if (!shared) shared = testing::start_worker(GetParam());
    connect(*shared);
  }
  static void TearDownTestSuite() { shared_.clear(); }
  void connect(testing::WorkerProcess& server) {
    worker_.reset();
    server_ = &server;
    worker_ = make_worker(server.uri(), {.tls_folder = testing::tls_folder()});
  }
  /// A worker of this test's own, to be ended.
  void connect_to_own() {
    own_ = testing::start_worker(GetParam());
    connect(*own_);
  }

  Buffer random_operand(Worker& worker, std::vector<int64_t> shape) {
    Buffer buffer = worker.allocate({.shape = std::move(shape)});
    std::normal_distribution<float> normal;
    auto* floats = reinterpret_cast<float*>(buffer.data());
    std::generate_n(floats, buffer.spec().elements(), [&] { return normal(random_); });
    return buffer;
  }
  Buffer filled(std::vector<int64_t> shape, float value) {
    Buffer buffer = worker_->allocate({.shape = std::move(shape)});
    auto* floats = reinterpret_cast<float*>(buffer.data());
    std::fill_n(floats, buffer.spec().elements(), value);
    return buffer;
  }
  Buffer fetch(OperandId id) { return worker_->submit(Fetch{id}).get(); }
  void fetch_one_product() {
    worker_->put(1, filled({1, 1 << 18}, 1));
    worker_->submit(Forward{.product = {}, .x = 1, .w = 1}).get();
    fetch(1);
    worker_->free({1});
  }
  static float first(const Buffer& buffer) {
    float value = 0;
    std::memcpy(&value, buffer.data(), sizeof value);
    return value;
  }

  /// Forward, both gradients, a kept gradient, an update and a fetch; all replies in order.
  std::vector<std::vector<std::byte>> train_once(Worker& worker, const Product& product, std::vector<int64_t> x,
                                                 std::vector<int64_t> w, std::vector<int64_t> y) {
    random_.seed(kSeed);
    const std::vector<int64_t> shapes[] = {x, w, y, w};
    for (OperandId id = 1; id <= 4; ++id) worker.put(id, random_operand(worker, shapes[id - 1]));
    std::vector<std::future<Buffer>> replies;
    const auto submit = [&](Operation operation) { replies.push_back(worker.submit(std::move(operation))); };
    submit(Forward{.product = product, .x = 1, .w = 2});
    submit(Forward{.product = product, .x = 1, .w = 2, .reply_type = ElementType::kBFloat16});
    submit(InputGradient{.product = product, .dy = 3, .w = 2, .x_shape = x});
    submit(WeightGradient{.product = product, .x = 1, .dy = 3, .w_shape = w});
    submit(WeightGradient{.product = product, .x = 1, .dy = 3, .w_shape = w, .keep_as = 5});
    submit(Fetch{2});
    submit(Update{.w = 2, .velocity = 4, .dw = 5, .step = 1, .learning_rate = 0.1, .momentum = 0.9});
    submit(Fetch{2});
    submit(Fetch{4});
    submit(Fetch{5});
    std::vector<std::vector<std::byte>> bytes;
    for (auto& reply : replies) {
      const Buffer result = reply.get();
      bytes.emplace_back(result.data(), result.data() + result.bytes());
    }
    worker.free({1, 2, 3, 4, 5});
    return bytes;
  }

  std::mt19937 random_{kSeed};
  static inline std::map<std::string, std::unique_ptr<testing::WorkerProcess>> shared_;  // by transport
  std::unique_ptr<testing::WorkerProcess> own_;
  testing::WorkerProcess* server_ = nullptr;  // either
  std::shared_ptr<Worker> worker_;
};

TEST_P(TransportConformance, ResultsEqualTheEmbeddedWorkersBitForBit) {
  const auto embedded = make_worker("inprocess:cpu");
  const auto expect_same = [&](const Product& product, const std::vector<int64_t>& x, const std::vector<int64_t>& w,
                               const std::vector<int64_t>& y) {
    EXPECT_EQ(train_once(*worker_, product, x, w, y), train_once(*embedded, product, x, w, y)) << "seed " << kSeed;
  };
  expect_same({}, {64, 48}, {32, 48}, {64, 32});
  expect_same({}, {7, 4 * 9}, {5, 3, 3, 4}, {7, 5});
  expect_same({.kind = ProductKind::kConv2d}, {8, 9, 9, 16}, {24, 3, 3, 16}, {8, 7, 7, 24});
  expect_same({.kind = ProductKind::kConv2d, .stride_h = 2, .stride_w = 2}, {8, 9, 9, 16}, {24, 3, 3, 16},
              {8, 4, 4, 24});
  expect_same({.kind = ProductKind::kConv2d, .dilation_h = 2, .dilation_w = 2}, {2, 9, 9, 3}, {4, 3, 3, 3},
              {2, 5, 5, 4});
  expect_same({.kind = ProductKind::kMatmul}, {4, 16, 8}, {4, 8, 12}, {4, 16, 12});
}

/// Slices of one operand, put one by one out of its memory, are operands of their own.
TEST_P(TransportConformance, RowsOfOneBufferCanBePutAsOperandsOfTheirOwn) {
  const Buffer whole = random_operand(*worker_, {512, 16});
  const Buffer w = random_operand(*worker_, {8, 16}), dy = random_operand(*worker_, {512, 8});
  const auto rows_of = [](const Buffer& buffer, int64_t begin, int64_t end) {
    const size_t row = buffer.bytes() / 512;
    return Buffer({.shape = {end - begin, buffer.spec().shape[1]}},
                  {buffer.owner(), buffer.data() + static_cast<size_t>(begin) * row}, buffer.is_shared());
  };
  const Buffer copy = Buffer::allocate(whole.spec());
  std::memcpy(copy.data(), whole.data(), whole.bytes());
  worker_->put(9, w);
  worker_->put(1, rows_of(whole, 0, 256));
  worker_->put(2, rows_of(whole, 256, 512));
  worker_->put(3, copy);
  worker_->put(4, rows_of(dy, 0, 256));
  worker_->put(5, rows_of(dy, 256, 512));
  worker_->put(6, dy);
  const Buffer y = worker_->submit(Forward{.product = {}, .x = 3, .w = 9}).get();
  const Buffer top = worker_->submit(Forward{.product = {}, .x = 1, .w = 9}).get();
  const Buffer bottom = worker_->submit(Forward{.product = {}, .x = 2, .w = 9}).get();
  const auto differs = [](const Buffer& a, const std::byte* b) {
    double most = 0;
    for (size_t i = 0; i < a.bytes() / sizeof(float); ++i)
      most = std::max(
          most, double{std::abs(reinterpret_cast<const float*>(a.data())[i] - reinterpret_cast<const float*>(b)[i])});
    return most;
  };
  EXPECT_LT(differs(top, y.data()), 1e-5);
  EXPECT_LT(differs(bottom, y.data() + top.bytes()), 1e-5);
  const Buffer dw = worker_->submit(WeightGradient{.product = {}, .x = 3, .dy = 6, .w_shape = {8, 16}}).get();
  const Buffer sum =
      worker_
          ->submit(WeightGradient{.product = {}, .x = 1, .dy = 4, .w_shape = {8, 16}, .further = {{.x = 2, .dy = 5}}})
          .get();
  EXPECT_LT(differs(dw, sum.data()), 1e-3);
  worker_->free({1, 2, 3, 4, 5, 6, 9});
}

/// Takes rows of any width, which begin anywhere in their memory.
TEST_P(TransportConformance, UnalignedRowsOfOneBufferCanBePutAsOperandsOfTheirOwn) {
  const Buffer whole = filled({7, 5}, 2);
  const Buffer x = worker_->allocate(whole.spec()), w = filled({3, 5}, 1);
  std::memcpy(x.data(), whole.data(), whole.bytes());
  const size_t row = 5 * sizeof(float);
  worker_->put(1, w);
  worker_->put(2, Buffer({.shape = {3, 5}}, {x.owner(), x.data()}, x.is_shared()));
  worker_->put(3, Buffer({.shape = {4, 5}}, {x.owner(), x.data() + 3 * row}, x.is_shared()));
  for (const auto& [id, rows] : {std::pair<OperandId, int64_t>{2, 3}, {3, 4}}) {
    const Buffer y = worker_->submit(Forward{.product = {}, .x = id, .w = 1}).get();
    EXPECT_EQ(y.spec().shape, (std::vector<int64_t>{rows, 3}));
    EXPECT_EQ(first(y), 10);
  }
  worker_->free({1, 2, 3});
}

TEST_P(TransportConformance, TheDescriptionIsTheWorkers) {
  const WorkerDescription description = worker_->describe();
  EXPECT_THAT(server_->uri(), HasSubstr(description.name));
  EXPECT_EQ(description.device, "cpu");
  EXPECT_THAT(description.version, HasSubstr("LibTorch"));
  EXPECT_GT(description.memory_bytes, 0U);
}

TEST_P(TransportConformance, ManyOperationsInFlightKeepTheirOrder) {
  constexpr OperandId kCount = 3000;
  for (OperandId i = 1; i <= kCount; ++i) worker_->put(i, filled({1}, static_cast<float>(i)));
  std::vector<std::future<Buffer>> replies;
  for (OperandId i = 1; i <= kCount; ++i) replies.push_back(worker_->submit(Fetch{i}));
  for (OperandId i = 1; i <= kCount; ++i) ASSERT_EQ(first(replies[i - 1].get()), static_cast<float>(i));
}

TEST_P(TransportConformance, AFetchSeesUpdatesBeforeItAndNoneAfterIt) {
  constexpr int kUpdates = 50;
  worker_->put(1, filled({1 << 16}, 1000));
  worker_->put(2, filled({1 << 16}, 0));
  worker_->put(3, filled({1 << 16}, 1));
  std::vector<std::future<Buffer>> fetches;
  for (int step = 1; step <= kUpdates; ++step) {
    worker_->submit(Update{.w = 1, .velocity = 2, .dw = 3, .step = static_cast<uint64_t>(step), .learning_rate = 1});
    fetches.push_back(worker_->submit(Fetch{1}));
  }
  for (int step = 1; step <= kUpdates; ++step) {
    const Buffer seen = fetches[static_cast<size_t>(step - 1)].get();
    EXPECT_EQ(first(seen), 1000.0F - static_cast<float>(step));
    EXPECT_EQ(std::memcmp(seen.data(), seen.data() + 4, seen.bytes() - 4), 0) << "a mixture of two states";
  }
}

TEST_P(TransportConformance, OperandsCanBeReplacedAndFreed) {
  worker_->put(1, filled({4}, 1));
  worker_->put(1, filled({8}, 2));
  EXPECT_EQ(fetch(1).spec().shape, (std::vector<int64_t>{8}));
  worker_->free({1, 99});
  EXPECT_THAT(message_of<ProtocolError>([&] { fetch(1); }), HasSubstr("operand 1 is not stored"));
}

TEST_P(TransportConformance, ARefusalDoesNotEndTheSession) {
  worker_->put(1, filled({2, 3}, 1));
  worker_->put(2, filled({2, 4}, 1));
  auto unknown = worker_->submit(Fetch{77});
  auto misfit = worker_->submit(Forward{.product = {}, .x = 1, .w = 2});
  auto conv = worker_->submit(Forward{.product = {.kind = ProductKind::kConv2d}, .x = 1, .w = 2});
  auto fine = worker_->submit(Fetch{1});
  EXPECT_THAT(message_of<ProtocolError>([&] { unknown.get(); }), HasSubstr("operand 77 is not stored"));
  EXPECT_THAT(message_of<ProtocolError>([&] { misfit.get(); }), HasSubstr("refused"));
  EXPECT_THROW(conv.get(), ProtocolError);
  EXPECT_EQ(first(fine.get()), 1);
}

TEST_P(TransportConformance, LargeAndEmptyTensorsArrive) {
  const Buffer large = random_operand(*worker_, {(64 << 20) / 4 + 3});
  worker_->put(1, large);
  worker_->put(2, filled({0, 7}, 0));
  const Buffer back = fetch(1);
  ASSERT_EQ(back.bytes(), large.bytes());
  EXPECT_EQ(std::memcmp(back.data(), large.data(), large.bytes()), 0);
  EXPECT_EQ(fetch(2).spec().shape, (std::vector<int64_t>{0, 7}));
}

TEST_P(TransportConformance, AMasterCanLeaveWithOperationsUnderWay) {
  worker_->put(1, filled({512, 512}, 1));
  std::vector<std::future<Buffer>> pending;
  for (int i = 0; i < 100; ++i) pending.push_back(worker_->submit(Forward{.product = {}, .x = 1, .w = 1}));
  worker_.reset();
  for (auto& future : pending) ASSERT_EQ(future.wait_for(kLong), std::future_status::ready);
}

TEST_P(TransportConformance, AWorkerThatDiesIsLostWithoutHanging) {
  if (!server_->is_a_process()) GTEST_SKIP() << "dies with this process";
  connect_to_own();
  worker_->put(1, filled({1536, 1536}, 1));
  const Buffer reply = fetch(1);
  std::vector<std::future<Buffer>> pending;
  for (int i = 0; i < 200; ++i) pending.push_back(worker_->submit(Forward{.product = {}, .x = 1, .w = 1}));
  server_->kill();
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
  EXPECT_THROW(worker_->free({1}), WorkerLostError);
  EXPECT_EQ(first(reply), 1) << "what came before it died stays readable";
}

TEST_P(TransportConformance, AStoppedWorkerFinishesTheRunningOperationAndReportsItsEnd) {
  if (!server_->is_a_process()) GTEST_SKIP() << "stops with this process";
  connect_to_own();
  worker_->put(1, filled({1024, 1024}, 1));
  fetch(1);
  std::vector<std::future<Buffer>> pending;
  for (int i = 0; i < 500; ++i) pending.push_back(worker_->submit(Forward{.product = {}, .x = 1, .w = 1}));
  EXPECT_EQ(server_->stop(), 0);
  std::string reason;
  for (auto& future : pending) {
    ASSERT_EQ(future.wait_for(kLong), std::future_status::ready);
    try {
      EXPECT_EQ(first(future.get()), 1024);
    } catch (const WorkerLostError& error) {
      reason = error.what();
    }
  }
  EXPECT_THAT(reason, HasSubstr("the worker stops"));
}

/// Waits until `condition` holds. False if it does not for so long that it never will.
bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST_P(TransportConformance, AWorkerReturnsTheMemoryOfAMasterThatLeft) {
  connect_to_own();
  if (!own_->is_a_process()) GTEST_SKIP() << "its memory is this process's";
  constexpr int64_t kCount = 16, kMebibytes = 8;
  for (OperandId id = 1; id <= kCount; ++id) worker_->put(id, filled({kMebibytes, 1 << 18}, 1));
  for (OperandId id = 1; id <= kCount; ++id) EXPECT_EQ(first(fetch(id)), 1) << "read by the worker, so it is resident";
  const double held = own_->resident_mib();
  EXPECT_GT(held, 0.9 * kCount * kMebibytes);
  worker_.reset();
  EXPECT_TRUE(eventually([&] { return own_->resident_mib() < held - 0.9 * kCount * kMebibytes; }))
      << own_->resident_mib() << " MiB, with what the master had stored " << held;
}

INSTANTIATE_TEST_SUITE_P(Transports, TransportConformance, ::testing::ValuesIn(testing::kTransports),
                         [](const auto& which) { return std::string(which.param.name); });

}  // namespace transport_conformance_test
}  // namespace tempo::offload
