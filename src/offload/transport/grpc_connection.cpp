#include "offload/transport/grpc_connection.h"

#include <fmt/format.h>

#include <algorithm>

#include "offload/transport/connection_limits.h"
#include "tempo/error.h"
#include "wire/reply_size.h"
#include "wire/timeouts.h"

namespace tempo::offload {

using std::chrono::milliseconds;
using wire::ClientMessage;
using wire::GrpcStream;
using wire::kAtOnce;
using wire::kForever;

GrpcConnection::GrpcConnection(std::string uri, const std::shared_ptr<grpc::Channel>& channel,
                               const GrpcOptions& options)
    : uri_(std::move(uri)), options_(options) {
  connect(channel);
  try {
    welcome_ = greet();
  } catch (...) {
    stream_->close(kAtOnce);
    throw;
  }
}

GrpcConnection::~GrpcConnection() { close(); }

void GrpcConnection::connect(const std::shared_ptr<grpc::Channel>& channel) {
  const auto deadline = std::chrono::system_clock::now() + options_.connect;
  const bool is_connected = channel->WaitForConnected(deadline);
  stream_ = GrpcClientStream::open(channel);
  if (is_connected) return;
  // With no connection a stream fails at once, and says why.
  grpc::ByteBuffer frame;
  stream_->receive(frame, options_.connect);
  stream_->close(kAtOnce);
  throw WorkerLostError(
      fmt::format("{}: no worker answers within {} ms: {}", uri_, options_.connect.count(), stream_->reason()));
}

wire::Welcome GrpcConnection::greet() {
  {
    const std::lock_guard lock(send_mutex_);
    // Sending fails if the worker has refused already; what is received next then says why.
    static_cast<void>(stream_->send(wire::to_frame(wire::Hello{.protocol = wire::kProtocol, .version = kMasterVersion}),
                                    options_.stall));
  }
  grpc::ByteBuffer bytes;
  const GrpcStream::Arrival arrival = stream_->receive(bytes, options_.connect);
  if (arrival == GrpcStream::Arrival::kTimeout)
    throw WorkerLostError(fmt::format("{}: the worker fell silent before its greeting", uri_));
  if (arrival == GrpcStream::Arrival::kClosed) {
    stream_->close(kAtOnce);
    throw WorkerLostError(fmt::format("{}: the worker refused the session: {}", uri_, stream_->reason()));
  }
  const wire::ReceivedFrame frame(bytes);
  const wire::ServerMessage message = wire::decode_server_message(frame.reader.message());
  if (const auto* goodbye = std::get_if<wire::Goodbye>(&message))
    throw WorkerLostError(fmt::format("{}: the worker refused the session: {}", uri_, goodbye->reason));
  const auto* welcome = std::get_if<wire::Welcome>(&message);
  if (welcome == nullptr || welcome->protocol != wire::kProtocol || frame.reader.payload_bytes() > 0)
    throw ProtocolError(fmt::format("{}: the worker's first message is not a welcome of protocol {}; connection closed",
                                    uri_, wire::kProtocol));
  return *welcome;
}

void GrpcConnection::put(OperandId id, const Buffer& operand) {
  const std::lock_guard order(send_mutex_);
  throw_if_lost();
  operands_[id] = operand.spec();
  const ClientMessage announcement = wire::Put{.operand = id, .spec = operand.spec()};
  check_sent(wire::send_tensor(*stream_, announcement, operand, options_.stall));
}

void GrpcConnection::free(std::vector<OperandId> ids) {
  const std::lock_guard order(send_mutex_);
  for (const OperandId id : ids) operands_.erase(id);
  for (size_t begin = 0; begin < ids.size(); begin += wire::kMaxFreed) {
    const size_t end = std::min(ids.size(), begin + wire::kMaxFreed);
    send(wire::Free{{ids.begin() + static_cast<ptrdiff_t>(begin), ids.begin() + static_cast<ptrdiff_t>(end)}});
  }
}

std::future<Buffer> GrpcConnection::submit(Operation operation) {
  const std::lock_guard order(send_mutex_);
  const uint64_t max_bytes = max_bytes_of(operation);
  const auto* gradient = std::get_if<WeightGradient>(&operation);
  if (gradient != nullptr && gradient->keep_as != 0) {
    const auto kept = wire::result_spec(operation, [this](OperandId id) {
      const auto found = operands_.find(id);
      return found == operands_.end() ? nullptr : &found->second;
    });
    if (kept) operands_[gradient->keep_as] = *kept;
  }
  const uint64_t number = next_number_;
  std::future<Buffer> future;
  {
    std::unique_lock lock(mutex_);
    answered_.wait(lock, [this] { return pending_.size() < kMaxInFlight || !lost_.empty(); });
    if (!lost_.empty()) throw WorkerLostError(lost_);
    Pending& pending = pending_[number];
    pending.max_bytes = max_bytes;
    future = pending.promise.get_future();
  }
  ++next_number_;
  send(wire::Submit{.number = number, .operation = std::move(operation)});
  return future;
}

uint64_t GrpcConnection::max_bytes_of(const Operation& operation) const {
  const uint64_t bytes = wire::max_reply_bytes(operation, [this](OperandId id) {
    const auto found = operands_.find(id);
    return found == operands_.end() ? nullptr : &found->second;
  });
  return std::min({bytes, options_.max_reply_bytes, uint64_t{wire::kMaxTensorBytes}});
}

void GrpcConnection::send(const ClientMessage& message) {
  throw_if_lost();
  check_sent(stream_->send(wire::to_frame(message), options_.stall));
}

void GrpcConnection::check_sent(GrpcStream::Sent sent) {
  if (sent == GrpcStream::Sent::kYes) return;
  // If the connection closed, the receiving thread knows the reason better: it may still read a goodbye.
  if (sent == GrpcStream::Sent::kTimeout)
    lose(fmt::format("the worker took nothing for {} ms", options_.stall.count()));
  throw_if_lost();
  throw WorkerLostError(fmt::format("{}: the worker ended, or closed the connection", uri_));
}

void GrpcConnection::receive_all() {
  grpc::ByteBuffer bytes;
  try {
    for (; stream_->receive(bytes, kForever) == GrpcStream::Arrival::kFrame; bytes.Clear())
      handle(wire::ReceivedFrame(bytes));
    stream_->close(kAtOnce);
    lose(fmt::format("the worker ended, or the connection did: {}", stream_->reason()));
  } catch (const ProtocolError& error) {
    const std::string reason = fmt::format("{}; connection closed", error.what());
    lose(reason, std::make_exception_ptr(ProtocolError(fmt::format("{}: {}", uri_, reason))));
  } catch (const std::exception& error) {
    lose(error.what());
  }
}

void GrpcConnection::close() { lose("the connection was closed by this side"); }

void GrpcConnection::handle(const wire::ReceivedFrame& frame) {
  const wire::ServerMessage message = wire::decode_server_message(frame.reader.message());
  if (const auto* chunk = std::get_if<wire::Chunk>(&message)) {
    if (auto result = receiver_.add(*chunk, frame.reader)) complete(receiving_, std::move(*result));
    return;
  }
  if (frame.reader.payload_bytes() > 0)
    throw ProtocolError(fmt::format("got {} bytes behind a message that is not a chunk", frame.reader.payload_bytes()));
  if (const auto* goodbye = std::get_if<wire::Goodbye>(&message))
    return lose(fmt::format("the worker ended the session: {}", goodbye->reason));
  if (receiver_.is_waiting()) throw ProtocolError("got a message before the reply announced last was complete");
  if (const auto* reply = std::get_if<wire::Reply>(&message)) return handle(*reply);
  if (const auto* refusal = std::get_if<wire::Refusal>(&message)) return handle(*refusal);
  throw ProtocolError("got a second welcome, or a message of shared memory");
}

void GrpcConnection::handle(const wire::Refusal& refusal) {
  const std::string message = fmt::format("{}: {}", uri_, refusal.reason);
  take(refusal.number).set_exception(std::make_exception_ptr(ProtocolError(message)));
}

void GrpcConnection::handle(const wire::Reply& reply) {
  const uint64_t most = pending_max_bytes(reply.number);
  if (reply.spec.bytes() > most)
    throw ProtocolError(fmt::format("got a reply of {} bytes to operation {}, expected at most {}", reply.spec.bytes(),
                                    reply.number, most));
  receiving_ = reply.number;
  if (auto result = receiver_.begin(reply.spec)) complete(receiving_, std::move(*result));
}

void GrpcConnection::complete(uint64_t number, Buffer result) { take(number).set_value(std::move(result)); }

uint64_t GrpcConnection::pending_max_bytes(uint64_t number) const {
  const std::lock_guard lock(mutex_);
  const auto found = pending_.find(number);
  if (found == pending_.end())
    throw ProtocolError(fmt::format("got an answer to operation {}, which is not under way", number));
  return found->second.max_bytes;
}

std::promise<Buffer> GrpcConnection::take(uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = pending_.find(number);
  if (found == pending_.end())
    throw ProtocolError(fmt::format("got an answer to operation {}, which is not under way", number));
  std::promise<Buffer> promise = std::move(found->second.promise);
  pending_.erase(found);
  answered_.notify_all();
  return promise;
}

void GrpcConnection::lose(const std::string& reason, std::exception_ptr pending_error) {
  std::unordered_map<uint64_t, Pending> pending;
  {
    const std::lock_guard lock(mutex_);
    if (lost_.empty()) lost_ = fmt::format("{}: {}", uri_, reason);
    if (!pending_error) pending_error = std::make_exception_ptr(WorkerLostError(lost_));
    pending.swap(pending_);
  }
  stream_->close(kAtOnce);
  answered_.notify_all();
  for (auto& [number, waiting] : pending) waiting.promise.set_exception(pending_error);
}

void GrpcConnection::throw_if_lost() const {
  const std::lock_guard lock(mutex_);
  if (!lost_.empty()) throw WorkerLostError(lost_);
}

}  // namespace tempo::offload
