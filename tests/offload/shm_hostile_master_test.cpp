// Masters of the shm:// transport that do what they must not, against an honest worker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "offload/shm_peers.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "worker/recording_monitor.h"
#include "worker/server/shm_server.h"

namespace tempo::offload {
namespace shm_hostile_master_test {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using testing::kLong;
using testing::kPatient;
using testing::new_shm_name;
using testing::say_to_worker;
using wire::Arrival;
using wire::ShmChannel;
using wire::ShmRing;
using wire::ShmSegment;
using wire::ShmSide;
using wire::UniqueDescriptor;

/// A server in this process, and masters made of raw parts. After every attack an honest master must be served.
class ShmHostileMaster : public ::testing::Test {
 protected:
  ShmHostileMaster() {
    worker::ServerOptions options;
    options.segment_bytes = wire::kMinSegmentBytes;
    options.max_sessions = 2;
    options.monitor = monitor_;
    server_ = worker::serve_shm(name_, options);
  }

  ~ShmHostileMaster() override {
    if (server_ == nullptr) return;
    std::shared_ptr<Worker> worker;
    for (int tries = 0; worker == nullptr && tries < 2000; ++tries) {
      try {
        worker = make_shm_worker(name_, kPatient);
      } catch (const WorkerLostError&) {
        std::this_thread::sleep_for(milliseconds(5));
      }
    }
    EXPECT_NE(worker, nullptr) << "the server does not serve any more";
    if (worker == nullptr) return;
    Buffer operand = worker->allocate({.shape = {4}});
    std::memset(operand.data(), 0, operand.bytes());
    worker->put(1, operand);
    EXPECT_EQ(worker->submit(Fetch{1}).get().bytes(), 16U);
  }

  struct Raw {
    std::unique_ptr<ShmSegment> segment;
    std::unique_ptr<ShmChannel> channel;
    UniqueDescriptor bell;  // the same socket once more

    wire::ServerMessage next() {
      std::vector<std::byte> bytes;
      if (channel->receive(bytes, kLong) != Arrival::kMessage) return wire::Goodbye{"(closed)"};
      return wire::decode_server_message(bytes);
    }
    /// The reason of the goodbye that must come, whatever comes before it.
    std::string goodbye() {
      for (;;)
        if (const auto message = next(); std::holds_alternative<wire::Goodbye>(message))
          return std::get<wire::Goodbye>(message).reason;
    }
    void say(const wire::ClientMessage& message) { say_to_worker(*channel, message); }
    [[nodiscard]] uint64_t operands() const { return segment->layout().operands().begin; }
  };

  /// Waits while a session of before is still being cleared away.
  UniqueDescriptor connect_socket(UniqueDescriptor& file) {
    for (int tries = 0;; ++tries) {
      UniqueDescriptor socket = wire::connect_shm(name_, kLong);
      try {
        file = wire::receive_shm_file(socket, kLong);
        return socket;
      } catch (const WorkerLostError&) {
        if (tries == 2000) throw;
        std::this_thread::sleep_for(milliseconds(5));
      }
    }
  }

  Raw connect() {
    UniqueDescriptor file;
    UniqueDescriptor socket = connect_socket(file);
    Raw raw;
    raw.segment = std::make_unique<ShmSegment>(file);
    raw.bell = UniqueDescriptor(dup(socket.get()));
    raw.channel = std::make_unique<ShmChannel>(*raw.segment, std::move(socket), ShmSide::kMaster);
    return raw;
  }

  Raw connect_and_greet() {
    Raw raw = connect();
    raw.say(wire::Hello{});
    EXPECT_TRUE(std::holds_alternative<wire::Welcome>(raw.next()));
    return raw;
  }

  std::string goodbye_after(const wire::ClientMessage& message) {
    Raw raw = connect_and_greet();
    raw.say(message);
    return raw.goodbye();
  }

  std::string name_ = new_shm_name();
  std::shared_ptr<testing::RecordingMonitor> monitor_ = std::make_shared<testing::RecordingMonitor>();
  std::unique_ptr<worker::Server> server_;
};

wire::Put put_at(uint64_t offset, std::vector<int64_t> shape = {16}, OperandId id = 1) {
  return {.operand = id, .spec = {.shape = std::move(shape)}, .offset = offset};
}

TEST_F(ShmHostileMaster, AMasterThatDoesNotGreetFirstIsRefused) {
  Raw raw = connect();
  raw.say(wire::Free{{1}});
  EXPECT_THAT(raw.goodbye(), HasSubstr("not a hello"));
  Raw old = connect();
  old.say(wire::Hello{.protocol = 1, .version = ""});
  EXPECT_THAT(old.goodbye(), HasSubstr("not a hello of protocol 2"));
}

TEST_F(ShmHostileMaster, TheMonitorIsToldHowEachSessionEnded) {
  Raw rude = connect();
  rude.say(wire::Free{{1}});
  rude.goodbye();
  EXPECT_EQ(monitor_->wait_for_endings(1).at(0).how, worker::SessionEnd::kProtocolError);
  EXPECT_THAT(monitor_->wait_for_endings(1).at(0).detail, HasSubstr("not a hello"));
  connect_and_greet();
  EXPECT_EQ(monitor_->wait_for_endings(2).at(1).how, worker::SessionEnd::kMasterLeft);
  const Raw raw = connect_and_greet();
  server_.reset();
  EXPECT_EQ(monitor_->wait_for_endings(3).at(2).how, worker::SessionEnd::kWorkerStopped);
}

TEST_F(ShmHostileMaster, AMasterOfAnotherUserGetsNoSegment) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  constexpr uid_t kNobody = 65534;
  constexpr int kRefused = 7;
  const pid_t child = fork();
  if (child == 0) {
    if (setuid(kNobody) != 0) _exit(1);
    try {
      wire::receive_shm_file(wire::connect_shm(name_, kLong), kLong);
    } catch (const WorkerLostError&) {
      _exit(kRefused);
    }
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), kRefused);
}

TEST_F(ShmHostileMaster, OperandsOutsideTheOperandAreaEndTheSession) {
  const wire::ShmRange area = wire::ShmLayout::of(wire::kMinSegmentBytes).operands();
  for (const uint64_t offset : {uint64_t{0}, area.begin - 64, area.begin + 4, area.end - 32, area.end, area.end + 64,
                                UINT64_MAX, UINT64_MAX - 63, UINT64_MAX - 31})
    EXPECT_THAT(goodbye_after(put_at(offset)), HasSubstr("operand of 64 bytes at")) << offset;
  EXPECT_THAT(goodbye_after(put_at(area.begin, {int64_t{1} << 31})), HasSubstr("operand of 8589934592 bytes"));
}

TEST_F(ShmHostileMaster, MessagesOutOfPlaceEndTheSession) {
  EXPECT_THAT(goodbye_after(wire::Hello{}), HasSubstr("second hello"));
  EXPECT_THAT(goodbye_after(wire::Chunk{5}), HasSubstr("a chunk"));
  EXPECT_THAT(goodbye_after(wire::Release{0}), HasSubstr("where no reply lies"));
  EXPECT_THAT(goodbye_after(wire::Release{UINT64_MAX}), HasSubstr("where no reply lies"));
}

TEST_F(ShmHostileMaster, ReleasingAReplyTwiceEndsTheSession) {
  Raw raw = connect_and_greet();
  raw.say(put_at(raw.operands()));
  raw.say(wire::Submit{.number = 1, .operation = Fetch{1}});
  const auto message = raw.next();
  ASSERT_TRUE(std::holds_alternative<wire::Reply>(message));
  const uint64_t offset = std::get<wire::Reply>(message).offset;
  raw.say(wire::Release{offset});
  raw.say(wire::Release{offset});
  EXPECT_THAT(raw.goodbye(), HasSubstr("where no reply lies"));
}

TEST_F(ShmHostileMaster, OverlappingOperandsDoNotHarmOtherMasters) {
  Raw raw = connect_and_greet();
  for (OperandId id = 1; id <= 10; ++id) raw.say(put_at(raw.operands() + 64 * (id / 2), {64}, id));
  raw.say(wire::Submit{.number = 1, .operation = Update{.w = 1, .velocity = 2, .dw = 3, .step = 1, .momentum = 0.5}});
  wire::ServerMessage answer = raw.next();
  while (std::holds_alternative<wire::Freed>(answer)) answer = raw.next();  // the worker updates copies of its own
  EXPECT_TRUE(std::holds_alternative<wire::Reply>(answer));
}

TEST_F(ShmHostileMaster, GarbageInTheRingEndsOnlyThatSession) {
  Raw honest = connect_and_greet();
  {
    Raw raw = connect_and_greet();
    raw.channel->send(std::vector<std::byte>(1000, std::byte{0xff}), kLong);
    raw.goodbye();
  }
  for (const uint32_t claimed : {0x80000000U, wire::kShmRingBytes * 2, 3U}) {
    Raw raw = connect_and_greet();
    *ring_memory(raw.segment->bytes(), ShmRing::kToWorker).written = claimed;
    raw.channel->close();
  }
  honest.say(put_at(honest.operands()));
  honest.say(wire::Submit{.number = 1, .operation = Fetch{1}});
  EXPECT_TRUE(std::holds_alternative<wire::Reply>(honest.next()));
}

TEST_F(ShmHostileMaster, AMessageOfImpossibleLengthEndsTheSession) {
  for (const uint32_t length : {UINT32_MAX, 61U, wire::kShmRingBytes}) {
    Raw raw = connect_and_greet();
    const wire::RingMemory ring = ring_memory(raw.segment->bytes(), ShmRing::kToWorker);
    const uint32_t position = *ring.written;
    std::memcpy(ring.bytes.data() + position, &length, sizeof length);
    *ring.written = position + 64;
    ring_doorbell(raw.bell);
    EXPECT_THAT(raw.goodbye(), HasSubstr("expected at most 60"));
  }
}

TEST_F(ShmHostileMaster, ChangingAnOperandDuringAProductDoesNotHarmOtherMasters) {
  Raw raw = connect_and_greet();
  raw.say(put_at(raw.operands(), {512, 512}, 1));
  raw.say(put_at(raw.operands() + (1 << 20), {512, 512}, 2));
  for (uint64_t i = 1; i <= 20; ++i)
    raw.say(wire::Submit{.number = i, .operation = Forward{.product = {}, .x = 1, .w = 2}});
  for (int i = 0; i < 200; ++i) std::memset(raw.segment->at(raw.operands()), i, 1 << 20);
  EXPECT_TRUE(std::holds_alternative<wire::Reply>(raw.next()));
}

TEST_F(ShmHostileMaster, AMasterThatLeavesMidwayFreesItsSession) {
  for (int i = 0; i < 4; ++i) {
    Raw raw = connect_and_greet();
    raw.say(put_at(raw.operands(), {512, 512}, 1));
    for (uint64_t n = 1; n <= 20; ++n)
      raw.say(wire::Submit{.number = n, .operation = Forward{.product = {}, .x = 1, .w = 1}});
  }
}

TEST_F(ShmHostileMaster, TheServerStopsWhileAMasterReadsNothing) {
  Raw raw = connect_and_greet();
  // Far more refusals than the ring to the master holds.
  for (uint64_t i = 1; i <= 60'000; ++i) {
    if (raw.channel->send(wire::encode(wire::ClientMessage(wire::Submit{.number = i, .operation = Fetch{9}})),
                          milliseconds(0)) != wire::Sent::kYes)
      break;
    if (i % 1000 == 0) std::this_thread::sleep_for(milliseconds(2));
  }
  const auto start = std::chrono::steady_clock::now();
  server_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(20));
}

}  // namespace shm_hostile_master_test
}  // namespace tempo::offload
