#include "worker/server/grpc_session.h"

#include <fmt/format.h>

#include <cstring>

#include "tempo/error.h"
#include "wire/timeouts.h"
#include "worker/executor.h"
#include "worker/server/process_memory.h"

namespace tempo::worker {

using contract::Buffer;
using std::chrono::milliseconds;
using wire::GrpcStream;
using wire::ReceivedFrame;
using wire::ServerMessage;

namespace {

constexpr milliseconds kHelloPatience{10'000};
constexpr milliseconds kReadPatience{30'000};    // for a master that reads nothing: its session ends then
constexpr milliseconds kGoodbyePatience{2'000};  // likewise, once the session is over
constexpr milliseconds kRoomInterval{200};       // how soon a session that waits for room sees that it is to stop

Buffer copy_of(const Buffer& buffer) {
  Buffer copy = Buffer::allocate(buffer.spec());
  if (buffer.bytes() > 0) std::memcpy(copy.data(), buffer.data(), buffer.bytes());
  return copy;
}

}  // namespace

GrpcSession::GrpcSession(std::shared_ptr<GrpcStream> stream, const ServerOptions& options)
    : stream_(std::move(stream)), options_(options) {}

GrpcSession::~GrpcSession() = default;

void GrpcSession::run() noexcept {
  std::string reason = "the worker stops";
  Ending ending;
  try {
    monitor_ = options_.monitor->session_began("grpc");
    greet();
    session_ = make_session(options_, *this, monitor_);
    serve();
    if (is_stopping_) ending.how = SessionEnd::kWorkerStopped;
    session_.reset();  // finishes what runs: its result leaves before the goodbye
  } catch (const std::exception& error) {
    reason = error.what();
    ending = ended_by(error);
  }
  stream_->send(wire::to_frame(ServerMessage(wire::Goodbye{reason})), kGoodbyePatience);
  stream_->close(kGoodbyePatience);
  session_.reset();
  receiver_ = {};
  monitor_->ended(ending);
}

void GrpcSession::stop() {
  is_stopping_ = true;
  stream_->stop_receiving();
}

void GrpcSession::cut_off() { stream_->close(milliseconds(0)); }

void GrpcSession::greet() {
  grpc::ByteBuffer bytes;
  if (stream_->receive(bytes, kHelloPatience) != GrpcStream::Arrival::kFrame) throw ProtocolError("no hello in time");
  const ReceivedFrame frame(bytes);
  const wire::ClientMessage message = wire::decode_client_message(frame.reader.message());
  const auto* hello = std::get_if<wire::Hello>(&message);
  if (hello == nullptr || hello->protocol != wire::kProtocol || frame.reader.payload_bytes() > 0)
    throw ProtocolError(fmt::format("the first message is not a hello of protocol {}", wire::kProtocol));
  const wire::Welcome welcome = {.protocol = wire::kProtocol,
                                 .version = Executor::version(),
                                 .device = options_.device,
                                 .memory_bytes = machine_memory(),
                                 .collective = options_.collective_address()};
  check_sent(stream_->send(wire::to_frame(ServerMessage(welcome)), kReadPatience));
}

bool GrpcSession::receive(grpc::ByteBuffer& frame) {
  // What waits is bounded by not reading on: gRPC's flow control then holds the master back.
  while (!session_->wait_for_room(kRoomInterval))
    if (is_stopping_) return false;
  return stream_->receive(frame, wire::kForever) == GrpcStream::Arrival::kFrame;
}

void GrpcSession::serve() {
  for (grpc::ByteBuffer bytes; receive(bytes); bytes.Clear()) {
    const ReceivedFrame frame(bytes);
    const wire::ClientMessage message = wire::decode_client_message(frame.reader.message());
    const bool is_chunk = std::holds_alternative<wire::Chunk>(message);
    if (receiver_.is_waiting() && !is_chunk)
      throw ProtocolError("a message before the tensor announced last was complete");
    if (frame.reader.payload_bytes() > 0 && !is_chunk)
      throw ProtocolError(fmt::format("{} bytes behind a message that is not a chunk", frame.reader.payload_bytes()));
    std::visit([&](const auto& kind) { handle(kind, frame); }, message);
  }
}

void GrpcSession::handle(const wire::Hello&, const ReceivedFrame&) { throw ProtocolError("a second hello"); }

void GrpcSession::handle(const wire::Release&, const ReceivedFrame&) {
  throw ProtocolError("a release, expected it over shared memory only");
}

void GrpcSession::handle(const wire::Put& put, const ReceivedFrame&) {
  const uint64_t most = options_.limits.memory_bytes;
  if (most > 0 && put.spec.bytes() > most)
    throw ProtocolError(fmt::format("an operand of {} bytes, expected at most {}", put.spec.bytes(), most));
  receiving_ = put.operand;
  if (auto operand = receiver_.begin(put.spec)) session_->put(receiving_, std::move(*operand));
}

void GrpcSession::handle(const wire::Chunk& chunk, const ReceivedFrame& frame) {
  if (auto operand = receiver_.add(chunk, frame.reader)) session_->put(receiving_, std::move(*operand));
}

void GrpcSession::handle(const wire::Free& freed, const ReceivedFrame&) { session_->free(freed.operands); }

void GrpcSession::handle(const wire::Submit& submit, const ReceivedFrame&) {
  if (std::holds_alternative<contract::Fetch>(submit.operation)) {
    const std::lock_guard lock(fetches_mutex_);
    fetches_.insert(submit.number);
  }
  session_->submit(submit.number, submit.operation);
}

bool GrpcSession::forget_fetch(uint64_t number) {
  const std::lock_guard lock(fetches_mutex_);
  return fetches_.erase(number) > 0;
}

void GrpcSession::replied(uint64_t number, Buffer result) {
  // Frames refer to the result until they are sent; a stored operand may be updated by then.
  if (forget_fetch(number)) result = copy_of(result);
  const ServerMessage announcement = wire::Reply{.number = number, .spec = result.spec()};
  check_sent(wire::send_tensor(*stream_, announcement, result, kReadPatience));
}

void GrpcSession::refused(uint64_t number, const std::string& reason) {
  forget_fetch(number);
  check_sent(
      stream_->send(wire::to_frame(ServerMessage(wire::Refusal{.number = number, .reason = reason})), kReadPatience));
}

void GrpcSession::check_sent(GrpcStream::Sent sent) {
  if (sent == GrpcStream::Sent::kTimeout) stream_->close(milliseconds(0));
}

}  // namespace tempo::worker
