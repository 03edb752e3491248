// Workers of the gRPC transport that do what they must not, against an honest master.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "offload/grpc_peers.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace grpc_hostile_worker_test {

using std::chrono::milliseconds;
using testing::answer_of;
using ::testing::HasSubstr;
using testing::kLong;
using testing::message_of;
using testing::RawWorker;
using wire::GrpcStream;

constexpr GrpcOptions kPatient = {.connect = kLong, .keepalive = kLong, .stall = kLong};

void say(GrpcStream& stream, const wire::ServerMessage& message, size_t payload = 0) {
  stream.send(answer_of(message, payload), kLong);
}

/// Reads on until the master submits something, or leaves.
uint64_t next_operation(GrpcStream& stream) {
  for (grpc::ByteBuffer bytes; stream.receive(bytes, kLong) == GrpcStream::Arrival::kFrame;) {
    const wire::ReceivedFrame frame(bytes);
    const auto message = wire::decode_client_message(frame.reader.message());
    if (const auto* submit = std::get_if<wire::Submit>(&message)) return submit->number;
  }
  return 0;
}

void greet(GrpcStream& stream) {
  grpc::ByteBuffer hello;
  stream.receive(hello, kLong);
  say(stream, wire::Welcome{.protocol = wire::kProtocol, .version = "1", .device = "cpu", .memory_bytes = 1});
}

wire::Reply reply_of(uint64_t number, std::vector<int64_t> shape, ElementType type = ElementType::kFloat32) {
  return {.number = number, .spec = {.type = type, .shape = std::move(shape)}};
}

/// Puts 4 numbers and fetches them from a worker that then misbehaves. What the future throws; later calls must find
/// the worker lost.
template <typename Exception>
std::string what_the_master_sees(const std::function<void(GrpcStream&, uint64_t number)>& act) {
  RawWorker hostile([&](GrpcStream& stream) {
    greet(stream);
    act(stream, next_operation(stream));
    next_operation(stream);  // until it leaves
  });
  const auto worker = make_insecure_worker(hostile.host_port(), kPatient);
  const Buffer operand = worker->allocate({.shape = {4}});
  std::memset(operand.data(), 0, operand.bytes());
  worker->put(1, operand);
  auto future = worker->submit(Fetch{1});
  EXPECT_EQ(future.wait_for(kLong), std::future_status::ready);
  const std::string message = message_of<Exception>([&] { future.get(); });
  EXPECT_THROW(
      {
        for (int i = 0; i < 10'000; ++i) {
          worker->free({1});
          std::this_thread::sleep_for(milliseconds(1));
        }
      },
      WorkerLostError);
  EXPECT_THROW(worker->submit(Fetch{1}), WorkerLostError);
  return message;
}

TEST(GrpcHostileWorker, UnrequestedRepliesAreRefused) {
  EXPECT_THAT(what_the_master_sees<ProtocolError>([](auto& s, uint64_t n) { say(s, reply_of(n + 1, {0})); }),
              HasSubstr("operation 2, which is not under way"));
  EXPECT_THAT(what_the_master_sees<ProtocolError>([](auto& s, uint64_t) { say(s, reply_of(0, {0})); }),
              HasSubstr("operation 0, which is not under way"));
  EXPECT_THAT(what_the_master_sees<ProtocolError>([](auto& s, uint64_t n) {
                say(s, wire::Refusal{n + 7, "no"});
              }),
              HasSubstr("operation 8, which is not under way"));
}

TEST(GrpcHostileWorker, ASecondAnswerToOneOperationEndsTheSession) {
  RawWorker hostile([](GrpcStream& stream) {
    greet(stream);
    const uint64_t number = next_operation(stream);
    say(stream, wire::Refusal{number, "no"});
    next_operation(stream);
    say(stream, wire::Refusal{number, "no"});
    next_operation(stream);
  });
  const auto worker = make_insecure_worker(hostile.host_port(), kPatient);
  EXPECT_THROW(worker->submit(Fetch{1}).get(), ProtocolError);
  auto waiting = worker->submit(Fetch{1});
  EXPECT_THAT(message_of<ProtocolError>([&] { waiting.get(); }), HasSubstr("operation 1, which is not under way"));
}

TEST(GrpcHostileWorker, RepliesLargerThanTheResultAreRefused) {
  EXPECT_THAT(what_the_master_sees<ProtocolError>([](auto& s, uint64_t n) { say(s, reply_of(n, {5})); }),
              HasSubstr("reply of 20 bytes to operation 1, expected at most 16"));
  EXPECT_THAT(what_the_master_sees<ProtocolError>([](auto& s, uint64_t n) { say(s, reply_of(n, {1 << 30})); }),
              HasSubstr("expected at most 16"));
  EXPECT_THAT(what_the_master_sees<ProtocolError>([](auto& s, uint64_t n) { say(s, reply_of(n, {-4})); }),
              HasSubstr("dimension of -4"));
  EXPECT_THAT(what_the_master_sees<ProtocolError>([](auto& s, uint64_t n) {
                say(s, reply_of(n, {INT64_MAX, INT64_MAX, 3}));
              }),
              HasSubstr("more than 17179869184 bytes"));
}

TEST(GrpcHostileWorker, ChunksThatDoNotFitAreRefused) {
  const auto with_chunk = [](const wire::ServerMessage& message, size_t payload) {
    return what_the_master_sees<ProtocolError>([&](auto& s, uint64_t n) {
      say(s, reply_of(n, {4}));
      say(s, message, payload);
    });
  };
  EXPECT_THAT(with_chunk(wire::Chunk{20}, 20), HasSubstr("where 16 are missing"));
  EXPECT_THAT(with_chunk(wire::Chunk{16}, 8), HasSubstr("that has 8 behind it"));
  EXPECT_THAT(with_chunk(wire::Chunk{0}, 0), HasSubstr("chunk of 0 bytes"));
  EXPECT_THAT(with_chunk(reply_of(1, {4}), 0), HasSubstr("before the reply announced last was complete"));
  EXPECT_THAT(with_chunk(wire::Refusal{1, "no"}, 0), HasSubstr("before the reply announced last was complete"));
  EXPECT_THAT(with_chunk(wire::Refusal{1, "no"}, 3), HasSubstr("3 bytes behind a message"));
  EXPECT_THAT(what_the_master_sees<ProtocolError>([](auto& s, uint64_t) { say(s, wire::Chunk{4}, 4); }),
              HasSubstr("not announced"));
}

TEST(GrpcHostileWorker, GarbageAndMessagesOutOfPlaceAreRefused) {
  const auto after = [](const grpc::ByteBuffer& frame) {
    return what_the_master_sees<ProtocolError>([&](auto& s, uint64_t) { s.send(frame, kLong); });
  };
  EXPECT_THAT(after(testing::raw_frame({})), HasSubstr("frame of 0 bytes"));
  EXPECT_THAT(after(testing::raw_frame({0xff, 0xff, 0xff, 0x7f})), HasSubstr("message of 2147483647 bytes"));
  EXPECT_THAT(after(testing::raw_frame({2, 0, 0, 0, 0xff, 0xff})), HasSubstr("not a message"));
  EXPECT_THAT(after(answer_of(wire::Welcome{})), HasSubstr("second welcome"));
  EXPECT_THAT(after(answer_of(wire::Freed{4})), HasSubstr("shared memory"));
}

TEST(GrpcHostileWorker, AWorkerThatLeavesMidwayIsLost) {
  EXPECT_THAT(what_the_master_sees<WorkerLostError>([](auto& s, uint64_t) { say(s, wire::Goodbye{"tired"}); }),
              HasSubstr("the worker ended the session: tired"));
  EXPECT_THAT(what_the_master_sees<WorkerLostError>([](auto& s, uint64_t n) {
                say(s, reply_of(n, {4}));
                say(s, wire::Chunk{8}, 8);
                s.close(milliseconds(100));
              }),
              HasSubstr("the worker ended"));
  EXPECT_THAT(what_the_master_sees<WorkerLostError>([](auto& s, uint64_t) {
                s.send(testing::raw_frame(std::vector<uint8_t>(wire::kMaxFrameBytes + 1)), kLong);
              }),
              HasSubstr("the worker ended"));
}

TEST(GrpcHostileWorker, AWorkerWithoutAProperGreetingIsRefused) {
  constexpr GrpcOptions kImpatient = {.connect = milliseconds(300), .keepalive = kLong, .stall = kLong};
  {
    RawWorker silent([](GrpcStream& stream) { next_operation(stream); });
    EXPECT_THAT(message_of<WorkerLostError>([&] { make_insecure_worker(silent.host_port(), kImpatient); }),
                HasSubstr("fell silent before its greeting"));
  }
  const auto greeted_with = [](const grpc::ByteBuffer& frame) {
    return [frame](GrpcStream& stream) {
      stream.send(frame, kLong);
      next_operation(stream);
    };
  };
  {
    RawWorker other(greeted_with(answer_of(wire::Welcome{9, "", "", 0})));
    EXPECT_THAT(message_of<ProtocolError>([&] { make_insecure_worker(other.host_port(), kPatient); }),
                HasSubstr("not a welcome of protocol 2"));
  }
  RawWorker garbage(greeted_with(testing::raw_frame({1, 0, 0, 0, 0xff})));
  EXPECT_THROW(make_insecure_worker(garbage.host_port(), kPatient), ProtocolError);
}

TEST(GrpcHostileWorker, AWorkerThatReadsNothingIsLost) {
  RawWorker stuck([](GrpcStream& stream) {
    greet(stream);
    std::this_thread::sleep_for(std::chrono::seconds(3));
  });
  constexpr GrpcOptions kShort = {.connect = kLong, .keepalive = kLong, .stall = milliseconds(500)};
  const auto worker = make_insecure_worker(stuck.host_port(), kShort);
  const Buffer large = worker->allocate({.shape = {256 << 18}});
  std::memset(large.data(), 0, large.bytes());
  EXPECT_THAT(message_of<WorkerLostError>([&] { worker->put(1, large); }), HasSubstr("took nothing for 500 ms"));
}

TEST(GrpcHostileWorker, ConnectingToNobodyOrABadAddressFailsWithAReason) {
  constexpr GrpcOptions kImpatient = {.connect = milliseconds(300)};
  EXPECT_THAT(message_of<WorkerLostError>([&] { make_insecure_worker("127.0.0.1:1", kImpatient); }),
              HasSubstr("no worker answers within 300 ms"));
  for (const char* address : {"", "worker", "worker:", "::1:80", "[worker]:80", "a/b:80", "worker:70000", "worker:-1"})
    EXPECT_THAT(message_of<InputError>([&] { make_insecure_worker(address); }), HasSubstr("expected HOST:PORT"));
}

}  // namespace grpc_hostile_worker_test
}  // namespace tempo::offload
