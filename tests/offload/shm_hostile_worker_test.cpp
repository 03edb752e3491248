// Workers of the shm:// transport that do what they must not, against an honest master.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <thread>

#include "offload/shm_peers.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace shm_hostile_worker_test {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using testing::kForever;
using testing::kLong;
using testing::kPatient;
using testing::message_of;
using testing::new_shm_name;
using testing::say_to_master;
using wire::Arrival;
using wire::ShmChannel;
using wire::ShmRing;
using wire::ShmSegment;
using wire::ShmSide;
using wire::UniqueDescriptor;

/// Accepts one master, then does what the test says.
class HostileWorker {
 public:
  using Behaviour = std::function<void(UniqueDescriptor socket)>;

  explicit HostileWorker(Behaviour behaviour)
      : listening_(wire::listen_shm(name_)), thread_([this, behaviour = std::move(behaviour)] {
          behaviour(UniqueDescriptor(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
        }) {}
  ~HostileWorker() { thread_.join(); }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  std::string name_ = new_shm_name();
  UniqueDescriptor listening_;
  std::thread thread_;
};

/// What a worker has after an honest greeting, to misuse.
struct Stage {
  ShmSegment& segment;
  ShmChannel& channel;

  /// Waits for the next operation of the master; puts on the way are let pass.
  uint64_t next_operation() {
    std::vector<std::byte> bytes;
    while (channel.receive(bytes, kForever) == Arrival::kMessage) {
      const auto message = wire::decode_client_message(bytes);
      if (const auto* submit = std::get_if<wire::Submit>(&message)) return submit->number;
    }
    return 0;
  }
  void reply(uint64_t number, uint64_t offset, std::vector<int64_t> shape = {16}) {
    say_to_master(channel, wire::Reply{.number = number, .spec = {.shape = std::move(shape)}, .offset = offset});
  }
  void wait_until_left() {
    std::vector<std::byte> bytes;
    try {
      while (channel.receive(bytes, kForever) == Arrival::kMessage) {
      }
    } catch (const ProtocolError&) {
    }
  }
};

HostileWorker::Behaviour greet_then(std::function<void(Stage&)> act) {
  return [act = std::move(act)](UniqueDescriptor socket) {
    const UniqueDescriptor file = wire::create_shm_file(wire::kMinSegmentBytes);
    ASSERT_TRUE(wire::send_shm_file(socket, file));
    ShmSegment segment(file);
    ShmChannel channel(segment, std::move(socket), ShmSide::kWorker);
    std::vector<std::byte> bytes;
    ASSERT_EQ(channel.receive(bytes, kLong), Arrival::kMessage);
    say_to_master(channel,
                  wire::Welcome{.protocol = wire::kProtocol, .version = "1", .device = "cpu", .memory_bytes = 1});
    Stage stage{segment, channel};
    act(stage);
    stage.wait_until_left();
  };
}

/// Submits one operation to a worker that misbehaves. What the future throws; later calls must find it lost.
std::string what_the_master_sees(std::function<void(Stage&)> act) {
  HostileWorker hostile(greet_then(std::move(act)));
  const auto worker = make_shm_worker(hostile.name(), kPatient);
  auto future = worker->submit(Fetch{1});
  EXPECT_EQ(future.wait_for(kLong), std::future_status::ready);
  const std::string message = message_of<ProtocolError>([&] { future.get(); });
  EXPECT_TRUE([&] {
    for (int i = 0; i < 10'000; ++i) {
      try {
        worker->free({1});
      } catch (const WorkerLostError&) {
        return true;
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
    return false;
  }());
  EXPECT_THROW(worker->submit(Fetch{1}), WorkerLostError);
  return message;
}

UniqueDescriptor memory_file(size_t bytes, int seals) {
  UniqueDescriptor file(memfd_create("hostile", MFD_ALLOW_SEALING | MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
  EXPECT_EQ(fcntl(file.get(), F_ADD_SEALS, seals), 0);
  return file;
}

TEST(ShmHostileWorker, BadSegmentsAreNotMapped) {
  const auto refusal_of = [](size_t bytes, int seals) {
    HostileWorker hostile([=](const UniqueDescriptor& socket) { send_shm_file(socket, memory_file(bytes, seals)); });
    return message_of<ProtocolError>([&] { make_shm_worker(hostile.name(), kPatient); });
  };
  EXPECT_THAT(refusal_of(wire::kMinSegmentBytes, F_SEAL_GROW), HasSubstr("can change its size"));
  EXPECT_THAT(refusal_of(4096, F_SEAL_GROW | F_SEAL_SHRINK), HasSubstr("segment of 4096 bytes"));
  EXPECT_THAT(refusal_of(wire::kMinSegmentBytes, F_SEAL_GROW | F_SEAL_SHRINK), HasSubstr("no TEMPOSHM header"));
}

TEST(ShmHostileWorker, AWorkerWithoutAProperGreetingIsRefused) {
  ShmOptions impatient = kPatient;
  impatient.connect = milliseconds(100);
  {
    HostileWorker silent([](const UniqueDescriptor&) { std::this_thread::sleep_for(milliseconds(500)); });
    EXPECT_THAT(message_of<WorkerLostError>([&] { make_shm_worker(silent.name(), impatient); }), HasSubstr("in time"));
  }
  const auto after_segment = [](const std::function<void(ShmChannel&)>& act) {
    return HostileWorker::Behaviour([act](UniqueDescriptor socket) {
      const UniqueDescriptor file = wire::create_shm_file(wire::kMinSegmentBytes);
      send_shm_file(socket, file);
      ShmSegment segment(file);
      ShmChannel channel(segment, std::move(socket), ShmSide::kWorker);
      act(channel);
      std::this_thread::sleep_for(milliseconds(500));
    });
  };
  {
    HostileWorker hostile(after_segment([](ShmChannel&) {}));
    EXPECT_THAT(message_of<WorkerLostError>([&] { make_shm_worker(hostile.name(), impatient); }), HasSubstr("silent"));
  }
  {
    const std::vector<std::byte> garbage(100, std::byte{0xff});
    HostileWorker hostile(after_segment([&](ShmChannel& channel) { channel.send(garbage, kLong); }));
    EXPECT_THROW(make_shm_worker(hostile.name(), kPatient), ProtocolError);
  }
  {
    HostileWorker hostile(after_segment([](ShmChannel& channel) {
      say_to_master(channel, wire::Welcome{1, "", "", 0});
    }));
    EXPECT_THAT(message_of<ProtocolError>([&] { make_shm_worker(hostile.name(), kPatient); }), HasSubstr("protocol 2"));
  }
}

TEST(ShmHostileWorker, RepliesOutsideTheReplyAreaAreRefused) {
  const wire::ShmRange area = wire::ShmLayout::of(wire::kMinSegmentBytes).replies();
  for (const uint64_t offset : {uint64_t{0}, area.begin - 64, area.begin + 4, area.begin + 32, area.end - 32, area.end,
                                area.end + 64, UINT64_MAX, UINT64_MAX - 63, UINT64_MAX - 31}) {
    SCOPED_TRACE(offset);
    EXPECT_THAT(what_the_master_sees([=](Stage& stage) { stage.reply(stage.next_operation(), offset); }),
                HasSubstr("got a reply of 64 bytes at"));
  }
  EXPECT_THAT(
      what_the_master_sees([=](Stage& stage) { stage.reply(stage.next_operation(), area.begin, {int64_t{1} << 31}); }),
      HasSubstr("got a reply of 8589934592 bytes at"));
}

TEST(ShmHostileWorker, RepliesOverOnesThatTheMasterHoldsAreRefused) {
  const uint64_t begin = wire::ShmLayout::of(wire::kMinSegmentBytes).replies().begin;
  for (const uint64_t second : {begin + 64, begin + 128, begin + 192}) {
    SCOPED_TRACE(second - begin);
    HostileWorker hostile(greet_then([=](Stage& stage) {
      stage.reply(stage.next_operation(), begin + 128, {32});
      stage.reply(stage.next_operation(), second, {32});
    }));
    const auto worker = make_shm_worker(hostile.name(), kPatient);
    const Buffer held = worker->submit(Fetch{1}).get();
    EXPECT_THAT(message_of<ProtocolError>([&] { worker->submit(Fetch{2}).get(); }), HasSubstr("still in use"));
  }
  // Once it is released the same place is fine.
  HostileWorker honest(greet_then([=](Stage& stage) {
    stage.reply(stage.next_operation(), begin, {32});
    stage.reply(stage.next_operation(), begin, {32});
  }));
  const auto worker = make_shm_worker(honest.name(), kPatient);
  worker->submit(Fetch{1}).get();
  EXPECT_EQ(worker->submit(Fetch{2}).get().bytes(), 128U);
}

TEST(ShmHostileWorker, UnrequestedAndRepeatedAnswersAreRefused) {
  const uint64_t begin = wire::ShmLayout::of(wire::kMinSegmentBytes).replies().begin;
  EXPECT_THAT(what_the_master_sees([=](Stage& stage) { stage.reply(stage.next_operation() + 1, begin); }),
              HasSubstr("got an answer to operation 2, which is not under way"));
  EXPECT_THAT(what_the_master_sees([](Stage& stage) {
                stage.next_operation();
                say_to_master(stage.channel, wire::Refusal{77, "no"});
              }),
              HasSubstr("got an answer to operation 77"));
  HostileWorker twice(greet_then([=](Stage& stage) {
    const uint64_t number = stage.next_operation();
    stage.next_operation();
    stage.reply(number, begin);
    stage.reply(number, begin + 4096);
  }));
  const auto worker = make_shm_worker(twice.name(), kPatient);
  auto first = worker->submit(Fetch{1}), second = worker->submit(Fetch{2});
  EXPECT_EQ(first.get().bytes(), 64U);
  EXPECT_THAT(message_of<ProtocolError>([&] { second.get(); }), HasSubstr("operation 1, which is not under way"));
}

TEST(ShmHostileWorker, MessagesOutOfPlaceAreRefused) {
  const auto after_operation = [](const wire::ServerMessage& message) {
    return what_the_master_sees([=](Stage& stage) {
      stage.next_operation();
      say_to_master(stage.channel, message);
    });
  };
  EXPECT_THAT(after_operation(wire::Welcome{1, "", "", 0}), HasSubstr("second welcome"));
  EXPECT_THAT(after_operation(wire::Chunk{8}), HasSubstr("got a chunk"));
  EXPECT_THAT(after_operation(wire::Freed{0}), HasSubstr("freed operand memory"));
  EXPECT_THAT(after_operation(wire::Freed{UINT64_MAX}), HasSubstr("freed operand memory"));
}

TEST(ShmHostileWorker, FreeingAnOperandTwiceIsRefused) {
  HostileWorker hostile(greet_then([](Stage& stage) {
    const uint64_t begin = stage.segment.layout().operands().begin;
    stage.next_operation();
    say_to_master(stage.channel, wire::Freed{begin});
    say_to_master(stage.channel, wire::Freed{begin});
  }));
  const auto worker = make_shm_worker(hostile.name(), kPatient);
  const Buffer operand = worker->allocate({.shape = {4}});
  worker->put(1, operand);
  EXPECT_THAT(message_of<ProtocolError>([&] { worker->submit(Fetch{1}).get(); }), HasSubstr("does not hold"));
}

TEST(ShmHostileWorker, FalseRingPositionsAndLengthsAreRefused) {
  const auto scribble = [](uint32_t claimed) {
    return what_the_master_sees([=](Stage& stage) {
      stage.next_operation();
      *ring_memory(stage.segment.bytes(), ShmRing::kToMaster).written = claimed;
      // Something must wake the master: a message would overwrite the word.
      *ring_memory(stage.segment.bytes(), ShmRing::kToMaster).reader_sleeps = 0;
      stage.channel.close();
    });
  };
  EXPECT_THAT(scribble(0x80000000U), HasSubstr("unread bytes"));
  EXPECT_THAT(scribble(wire::kShmRingBytes * 2), HasSubstr("unread bytes"));
  EXPECT_THAT(what_the_master_sees([](Stage& stage) {
                stage.next_operation();
                const wire::RingMemory ring = ring_memory(stage.segment.bytes(), ShmRing::kToMaster);
                std::memset(ring.bytes.data(), 0xff, ring.bytes.size());
                *ring.written += 100;
                stage.channel.close();
              }),
              HasSubstr("got a message of 4294967295 bytes"));
}

TEST(ShmHostileWorker, AWorkerThatClaimsToHaveReadTooMuchIsLost) {
  HostileWorker hostile(greet_then([](Stage& stage) {
    stage.next_operation();
    *ring_memory(stage.segment.bytes(), ShmRing::kToWorker).read = 0x70000000U;
    stage.reply(1, stage.segment.layout().replies().begin);
  }));
  const auto worker = make_shm_worker(hostile.name(), kPatient);
  worker->submit(Fetch{1}).wait();
  EXPECT_THROW(worker->free({1}), WorkerLostError);
  EXPECT_THROW(worker->submit(Fetch{1}), WorkerLostError);
}

TEST(ShmHostileWorker, AWorkerThatStopsReadingIsLost) {
  std::promise<void> done;
  HostileWorker hostile(greet_then([&](Stage&) { done.get_future().wait(); }));
  ShmOptions impatient = kPatient;
  impatient.stall = milliseconds(100);
  const auto worker = make_shm_worker(hostile.name(), impatient);
  auto pending = worker->submit(Fetch{1});
  const std::vector<OperandId> many(wire::kMaxFreed, UINT64_MAX);
  EXPECT_THAT(message_of<WorkerLostError>([&] {
                for (int i = 0; i < 100; ++i) worker->free(many);
              }),
              HasSubstr("read nothing for 100 ms"));
  EXPECT_THROW(pending.get(), WorkerLostError);
  done.set_value();
}

TEST(ShmHostileWorker, TheReasonOfAGoodbyeIsReported) {
  HostileWorker hostile(greet_then([](Stage& stage) {
    stage.next_operation();
    say_to_master(stage.channel, wire::Goodbye{"out of luck"});
    stage.channel.close();
  }));
  const auto worker = make_shm_worker(hostile.name(), kPatient);
  EXPECT_THAT(message_of<WorkerLostError>([&] { worker->submit(Fetch{1}).get(); }), HasSubstr("out of luck"));
}

}  // namespace shm_hostile_worker_test
}  // namespace tempo::offload
