// Masters of the gRPC transport that do what they must not, against an honest worker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "offload/grpc_peers.h"
#include "offload/transport_servers.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "worker/recording_monitor.h"
#include "worker/server/grpc_server.h"

namespace tempo::offload {
namespace grpc_hostile_master_test {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AnyOf;
using testing::frame_of;
using ::testing::HasSubstr;
using testing::kLong;
using testing::message_of;
using testing::RawMaster;

/// A server in this process, and masters made of raw frames. After every attack, one who was there before and one who
/// comes after must be served.
class GrpcHostileMaster : public ::testing::Test {
 protected:
  GrpcHostileMaster() {
    worker::ServerOptions options;
    options.max_sessions = 3;
    options.limits.memory_bytes = size_t{64} << 20;
    options.monitor = monitor_;
    server_ = worker::serve_insecure("127.0.0.1:0", options);
    before_ = make_insecure_worker(host_port());
    expect_served(*before_);
  }
  ~GrpcHostileMaster() override {
    expect_served(*before_);
    before_.reset();
    expect_served(*connect_patiently());
  }

  [[nodiscard]] std::string host_port() const { return server_->address().substr(std::strlen("insecure://")); }

  /// A session of before may still be being cleared away.
  std::shared_ptr<Worker> connect_patiently() {
    for (int tries = 0;; ++tries) try {
        return make_insecure_worker(host_port());
      } catch (const WorkerLostError&) {
        if (tries == 1000) throw;
        std::this_thread::sleep_for(milliseconds(10));
      }
  }

  /// As `connect_patiently`.
  std::unique_ptr<RawMaster> greet_patiently() {
    for (int tries = 0;; ++tries) {
      auto master = std::make_unique<RawMaster>(host_port());
      if (master->try_greet() || tries == 200) return master;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  static void expect_served(Worker& worker) {
    const Buffer operand = worker.allocate({.shape = {4}});
    std::memset(operand.data(), 7, operand.bytes());
    worker.put(1, operand);
    EXPECT_EQ(worker.submit(Fetch{1}).get().bytes(), 16U);
  }

  std::string goodbye_after(const std::vector<grpc::ByteBuffer>& frames) {
    const std::unique_ptr<RawMaster> master = greet_patiently();
    for (const auto& frame : frames) master->send(frame);
    return master->goodbye();
  }

  std::shared_ptr<testing::RecordingMonitor> monitor_ = std::make_shared<testing::RecordingMonitor>();
  std::unique_ptr<worker::Server> server_;
  std::shared_ptr<Worker> before_;
};

wire::Put put_of(std::vector<int64_t> shape, OperandId id = 1) {
  return {.operand = id, .spec = {.shape = std::move(shape)}};
}

TEST_F(GrpcHostileMaster, AMasterThatDoesNotGreetFirstIsRefused) {
  const auto answer_to = [this](const grpc::ByteBuffer& first) {
    RawMaster master(host_port());
    master.send(first);
    return master.goodbye();
  };
  EXPECT_THAT(answer_to(frame_of(wire::Submit{.number = 1, .operation = Fetch{1}})), HasSubstr("not a hello"));
  EXPECT_THAT(answer_to(frame_of(wire::Hello{1, ""})), HasSubstr("not a hello of protocol 2"));
  EXPECT_THAT(answer_to(frame_of(wire::Hello{}, 10)), HasSubstr("not a hello"));
}

TEST_F(GrpcHostileMaster, GarbageFramesEndTheSession) {
  EXPECT_THAT(goodbye_after({testing::raw_frame({})}), HasSubstr("frame of 0 bytes"));
  EXPECT_THAT(goodbye_after({testing::raw_frame({1, 0})}), HasSubstr("frame of 2 bytes"));
  EXPECT_THAT(goodbye_after({testing::raw_frame({0xff, 0xff, 0xff, 0xff, 1})}),
              HasSubstr("message of 4294967295 bytes"));
  EXPECT_THAT(goodbye_after({testing::raw_frame({9, 0, 0, 0, 1})}),
              HasSubstr("message of 9 bytes in a frame that has 1"));
  EXPECT_THAT(goodbye_after({testing::raw_frame({3, 0, 0, 0, 0xff, 0xff, 0xff})}), HasSubstr("not a message"));
  EXPECT_THAT(goodbye_after({testing::raw_frame({0, 0, 0, 0})}), HasSubstr("without a kind"));
}

TEST_F(GrpcHostileMaster, FramesLargerThanAllowedEndTheStream) {
  RawMaster master(host_port());
  master.greet();
  master.send(testing::raw_frame(std::vector<uint8_t>(wire::kMaxFrameBytes + 1)));
  EXPECT_THAT(master.goodbye(), AnyOf(HasSubstr("closed"), HasSubstr("frame of")));
}

TEST_F(GrpcHostileMaster, ImpossibleShapesEndTheSession) {
  EXPECT_THAT(goodbye_after({frame_of(put_of({-1}))}), HasSubstr("dimension of -1"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({INT64_MAX, INT64_MAX}))}), HasSubstr("more than 17179869184 bytes"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({int64_t{1} << 40}))}), HasSubstr("more than 17179869184 bytes"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({1, 1, 1, 1, 1, 1, 1, 1, 1}))}), HasSubstr("9 dimensions"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({17 << 20}))}), HasSubstr("expected at most 67108864"));
}

TEST_F(GrpcHostileMaster, ChunksThatDoNotFitEndTheSession) {
  EXPECT_THAT(goodbye_after({frame_of(wire::Chunk{16}, 16)}), HasSubstr("not announced"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({4})), frame_of(wire::Chunk{17}, 17)}), HasSubstr("where 16 are missing"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({4})), frame_of(wire::Chunk{16}, 15)}),
              HasSubstr("that has 15 behind it"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({4})), frame_of(wire::Chunk{UINT64_MAX}, 16)}), HasSubstr("that has 16"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({4})), frame_of(wire::Chunk{0})}), HasSubstr("chunk of 0 bytes"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({4})), frame_of(put_of({4}))}),
              HasSubstr("before the tensor announced last"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({4})), frame_of(wire::Submit{.number = 1, .operation = Fetch{1}})}),
              HasSubstr("before the tensor announced last"));
  EXPECT_THAT(goodbye_after({frame_of(put_of({0})), frame_of(wire::Chunk{4}, 4)}), HasSubstr("not announced"));
  EXPECT_THAT(goodbye_after({frame_of(wire::Free{{1}}, 8)}), HasSubstr("8 bytes behind a message"));
}

TEST_F(GrpcHostileMaster, MessagesOutOfPlaceEndTheSession) {
  EXPECT_THAT(goodbye_after({frame_of(wire::Hello{})}), HasSubstr("second hello"));
  const worker::Ending told = monitor_->wait_for_endings(1).at(0);
  EXPECT_EQ(told.how, worker::SessionEnd::kProtocolError);
  EXPECT_THAT(told.detail, HasSubstr("second hello"));
  EXPECT_THAT(goodbye_after({frame_of(wire::Release{0})}), HasSubstr("shared memory only"));
}

TEST_F(GrpcHostileMaster, ProductsLargerThanTheLimitAreRefused) {
  RawMaster master(host_port());
  master.greet();
  for (const OperandId id : {1, 2, 3}) {  // two columns and a row
    master.send(frame_of(id < 3 ? put_of({1 << 16, 1}, id) : put_of({1, 1 << 16}, id)));
    master.send(frame_of(wire::Chunk{1 << 18}, 1 << 18));
  }
  // 65,536 x 65,536 numbers from half a megabyte; the claimed shapes are modest.
  const Product linear, conv = {.kind = ProductKind::kConv2d};
  const auto refused = HasSubstr("17179869184 bytes refused, expected at most 67108864");
  EXPECT_THAT(master.refusal_of(Forward{.product = linear, .x = 1, .w = 2}), refused);
  EXPECT_THAT(master.refusal_of(InputGradient{.product = linear, .dy = 1, .w = 3, .x_shape = {1}}), refused);
  EXPECT_THAT(master.refusal_of(WeightGradient{.product = linear, .x = 3, .dy = 3, .w_shape = {1}}), refused);
  EXPECT_THAT(master.refusal_of(WeightGradient{.product = linear, .x = 3, .dy = 3, .w_shape = {1}, .keep_as = 9}),
              refused);
  EXPECT_THAT(master.refusal_of(InputGradient{.product = conv, .dy = 1, .w = 2, .x_shape = {1 << 16, 1 << 16}}),
              refused);
  EXPECT_THAT(master.refusal_of(WeightGradient{.product = conv, .x = 1, .dy = 2, .w_shape = {1 << 16, 1 << 16}}),
              refused);
}

TEST_F(GrpcHostileMaster, TensorsAnnouncedButNotSentTakeNoMemory) {
  std::vector<std::unique_ptr<RawMaster>> masters;
  for (int i = 0; i < 2; ++i) {
    masters.push_back(std::make_unique<RawMaster>(host_port()));
    masters.back()->greet();
    masters.back()->send(frame_of(put_of({16 << 20})));
  }
  expect_served(*before_);
}

TEST_F(GrpcHostileMaster, SessionsBeyondTheLimitAreRefused) {
  RawMaster one(host_port()), two(host_port());
  one.greet();
  two.greet();
  EXPECT_THAT(message_of<WorkerLostError>([&] { make_insecure_worker(host_port()); }),
              HasSubstr("it serves 3 masters already"));
}

TEST_F(GrpcHostileMaster, OtherMethodsAreNotServed) {
  RawMaster master(host_port(), "/tempo.v1.Worker/Other");
  master.send(frame_of(wire::Hello{}));
  EXPECT_EQ(master.goodbye(), "(closed)");
}

TEST_F(GrpcHostileMaster, AMasterThatLeavesMidwayFreesItsSession) {
  for (int i = 0; i < 10; ++i) {
    RawMaster master(host_port());
    if (!master.try_greet()) continue;  // the last ones are still being cleared away
    master.send(frame_of(put_of({512, 512})));
    master.send(frame_of(wire::Chunk{1 << 20}, 1 << 20));
    for (uint64_t n = 1; n <= 20; ++n)
      master.send(frame_of(wire::Submit{.number = n, .operation = Forward{.product = {}, .x = 1, .w = 1}}));
    master.send(frame_of(put_of({512, 512})));
  }
}

TEST_F(GrpcHostileMaster, TheServerStopsWhileAMasterReadsNothing) {
  RawMaster master(host_port());
  master.greet();
  master.send(frame_of(put_of({1 << 20})));
  for (int i = 0; i < 4; ++i) master.send(frame_of(wire::Chunk{1 << 20}, 1 << 20));
  for (uint64_t n = 1; n <= 200; ++n) master.send(frame_of(wire::Submit{.number = n, .operation = Fetch{1}}));
  std::this_thread::sleep_for(milliseconds(500));
  EXPECT_TRUE(server_ != nullptr);
  const auto start = std::chrono::steady_clock::now();
  worker::ServerOptions options;
  options.max_sessions = 3;
  server_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(20));
  // For the honest masters that the fixture wants served at the end.
  server_ = worker::serve_insecure("127.0.0.1:0", options);
  before_ = make_insecure_worker(host_port());
}

/// Memory of another process, so that only the worker's is measured.
TEST(GrpcFlood, AFloodOfTinyMessagesTakesBoundedMemory) {
  const testing::WorkerProcess server("insecure://127.0.0.1:0");
  const std::string address = server.uri().substr(std::strlen("insecure://"));
  const auto honest = make_insecure_worker(address);
  RawMaster master(address);
  master.greet();
  const double before = server.resident_mib();
  constexpr uint64_t kMessages = 250'000;
  std::atomic<bool> is_done = false;
  std::thread reading([&] {  // half of the time; what it does not read must not pile up at the worker
    while (!is_done && master.skip(milliseconds(50))) {
    }
  });
  const auto empty = frame_of(put_of({0}));
  bool is_open = true;
  for (uint64_t n = 1; n <= kMessages && is_open; ++n) {
    if (n % 4 == 0)
      is_open = master.send(frame_of(put_of({0}, n)));  // operands without a byte
    else if (n % 4 == 1)
      is_open = master.send(frame_of(wire::Free{{n}}));
    else
      is_open = master.send(frame_of(wire::Submit{.number = n, .operation = Fetch{n + 2}}));
  }
  EXPECT_TRUE(is_open) << "held back, not thrown out";
  const double after = server.resident_mib();
  RecordProperty("grown_mib", std::to_string(after - before));
  EXPECT_LT(after - before, 75) << "MiB: 300 bytes a message";
  const Buffer operand = honest->allocate({.shape = {4}});
  std::memset(operand.data(), 0, operand.bytes());
  honest->put(1, operand);
  EXPECT_EQ(honest->submit(Fetch{1}).get().bytes(), 16U);
  is_done = true;
  reading.join();
}

}  // namespace grpc_hostile_master_test
}  // namespace tempo::offload
