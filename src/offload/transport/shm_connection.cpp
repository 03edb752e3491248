#include "offload/transport/shm_connection.h"

#include <fmt/format.h>

#include <cstring>

#include "offload/transport/connection_limits.h"
#include "tempo/error.h"
#include "wire/timeouts.h"

namespace tempo::offload {

using wire::kAtOnce;
using wire::kForever;

ShmConnection::ShmConnection(const std::string& name, const ShmOptions& options)
    : uri_("shm://" + name), options_(options), socket_(wire::connect_shm(name, options.connect)) {
  wire::check_shm_peer(socket_);
  segment_ = std::make_unique<wire::ShmSegment>(wire::receive_shm_file(socket_, options.connect));
  channel_ = std::make_unique<wire::ShmChannel>(*segment_, std::move(socket_), wire::ShmSide::kMaster);
  operands_ = std::make_unique<ShmOperands>(segment_->layout().operands());
  replies_ = std::make_unique<ShmReplies>(segment_->layout().replies());
  welcome_ = greet();
}

wire::Welcome ShmConnection::greet() {
  send(wire::Hello{.protocol = wire::kProtocol, .version = kMasterVersion});
  std::vector<std::byte> bytes;
  const wire::Arrival arrival = channel_->receive(bytes, options_.connect);
  if (arrival != wire::Arrival::kMessage)
    throw WorkerLostError(fmt::format("{}: the worker {} before its greeting", uri_,
                                      arrival == wire::Arrival::kTimeout ? "fell silent" : "ended"));
  const wire::ServerMessage message = wire::decode_server_message(bytes);
  if (const auto* goodbye = std::get_if<wire::Goodbye>(&message))
    throw WorkerLostError(fmt::format("{}: the worker refused the session: {}", uri_, goodbye->reason));
  const auto* welcome = std::get_if<wire::Welcome>(&message);
  if (welcome == nullptr || welcome->protocol != wire::kProtocol)
    throw ProtocolError(fmt::format("{}: the worker's first message is not a welcome of protocol {}; connection closed",
                                    uri_, wire::kProtocol));
  return *welcome;
}

Buffer ShmConnection::allocate(const TensorSpec& spec) {
  throw_if_lost();
  const auto offset = operands_->allocate(spec.bytes(), options_.memory);
  if (!offset) {
    throw_if_lost();
    throw RunError(
        fmt::format("{}: no operand memory for {} bytes ({}, waited {} ms); "
                    "start the worker with a larger segment, or keep fewer operands",
                    uri_, spec.bytes(), operands_->fill(), options_.memory.count()));
  }
  std::shared_ptr<std::byte> memory(
      segment_->at(*offset), [self = shared_from_this(), at = *offset](std::byte*) { self->operands_->drop(at); });
  return {spec, std::move(memory), true};
}

std::optional<uint64_t> ShmConnection::offset_of(const Buffer& operand) const {
  const auto begin = reinterpret_cast<uintptr_t>(segment_->at(0));
  const auto at = reinterpret_cast<uintptr_t>(operand.data());
  if (at < begin || at - begin >= segment_->bytes().size()) return std::nullopt;
  const uint64_t offset = at - begin;
  if (offset % wire::kShmAlignment != 0) return std::nullopt;  // rows from the middle of an operand may begin anywhere
  return operands_->holds(offset, operand.bytes()) ? std::optional(offset) : std::nullopt;
}

void ShmConnection::put(OperandId id, Buffer operand) {
  throw_if_lost();
  auto offset = offset_of(operand);
  if (!offset) {
    Buffer copy = allocate(operand.spec());
    if (operand.bytes() > 0) std::memcpy(copy.data(), operand.data(), operand.bytes());
    operand = std::move(copy);
    offset = offset_of(operand);
  }
  operands_->lend(*offset);
  send(wire::Put{.operand = id, .spec = operand.spec(), .offset = *offset});
}

void ShmConnection::free(std::vector<OperandId> ids) {
  for (size_t begin = 0; begin < ids.size(); begin += wire::kMaxFreed) {
    const size_t end = std::min(ids.size(), begin + wire::kMaxFreed);
    send(wire::Free{{ids.begin() + static_cast<ptrdiff_t>(begin), ids.begin() + static_cast<ptrdiff_t>(end)}});
  }
}

std::future<Buffer> ShmConnection::submit(Operation operation) {
  const std::lock_guard order(submit_mutex_);
  std::future<Buffer> future;
  const uint64_t number = next_number_;
  {
    std::unique_lock lock(mutex_);
    answered_.wait(lock, [this] { return pending_.size() < kMaxInFlight || !lost_.empty(); });
    if (!lost_.empty()) throw WorkerLostError(lost_);
    future = pending_[number].get_future();
  }
  ++next_number_;
  send(wire::Submit{.number = number, .operation = std::move(operation)});
  return future;
}

void ShmConnection::send(const wire::ClientMessage& message) {
  throw_if_lost();
  wire::Sent sent = wire::Sent::kPeerGone;
  try {
    flush_releases();
    sent = channel_->send(wire::encode(message), options_.stall);
  } catch (const ProtocolError& error) {
    lose(error.what(), std::current_exception());
  }
  if (sent == wire::Sent::kYes) return;
  // If the connection closed, the receiving thread knows the reason better: it may still read a goodbye.
  if (sent == wire::Sent::kFull) lose(fmt::format("the worker read nothing for {} ms", options_.stall.count()));
  throw_if_lost();
  throw WorkerLostError(fmt::format("{}: the worker ended, or closed the connection", uri_));
}

void ShmConnection::receive_all() {
  std::vector<std::byte> bytes;
  try {
    while (channel_->receive(bytes, kForever) == wire::Arrival::kMessage) {
      std::visit([this](const auto& message) { handle(message); }, wire::decode_server_message(bytes));
      flush_releases();
    }
    lose("the worker ended, or closed the connection");
  } catch (const ProtocolError& error) {
    const std::string reason = fmt::format("{}; connection closed", error.what());
    lose(reason, std::make_exception_ptr(ProtocolError(fmt::format("{}: {}", uri_, reason))));
  } catch (const std::exception& error) {
    lose(error.what());
  }
}

void ShmConnection::close() { lose("the connection was closed by this side"); }

void ShmConnection::handle(const wire::Welcome&) { throw ProtocolError("got a second welcome"); }

void ShmConnection::handle(const wire::Chunk&) { throw ProtocolError("got a chunk, expected offsets"); }

void ShmConnection::handle(const wire::Goodbye& goodbye) {
  lose(fmt::format("the worker ended the session: {}", goodbye.reason));
}

void ShmConnection::handle(const wire::Freed& freed) { operands_->give_back(freed.offset); }

void ShmConnection::handle(const wire::Refusal& refusal) {
  const std::string message = fmt::format("{}: {}", uri_, refusal.reason);
  take(refusal.number).set_exception(std::make_exception_ptr(ProtocolError(message)));
}

void ShmConnection::handle(const wire::Reply& reply) {
  std::promise<Buffer> promise = take(reply.number);
  try {
    promise.set_value(accept(reply));
  } catch (const ProtocolError& error) {
    promise.set_exception(std::make_exception_ptr(ProtocolError(fmt::format("{}: {}", uri_, error.what()))));
    throw;
  }
}

std::promise<Buffer> ShmConnection::take(uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = pending_.find(number);
  if (found == pending_.end())
    throw ProtocolError(fmt::format("got an answer to operation {}, which is not under way", number));
  std::promise<Buffer> promise = std::move(found->second);
  pending_.erase(found);
  answered_.notify_all();
  return promise;
}

Buffer ShmConnection::accept(const wire::Reply& reply) {
  replies_->accept(reply.offset, reply.spec.bytes());
  std::shared_ptr<std::byte> memory(segment_->at(reply.offset), [self = shared_from_this(), at = reply.offset](
                                                                    std::byte*) { self->release_reply(at); });
  return {reply.spec, std::move(memory), true};
}

void ShmConnection::release_reply(uint64_t offset) noexcept {
  replies_->release(offset);  // before the worker is told that it may use the memory again
  try {
    {
      const std::lock_guard lock(release_mutex_);
      unsent_releases_.push_back(offset);
    }
    flush_releases();
  } catch (...) {
    // The worker broke the protocol: the next wait for it throws.
  }
}

void ShmConnection::flush_releases() {
  const std::lock_guard lock(release_mutex_);
  while (!unsent_releases_.empty()) {
    const auto message = wire::encode(wire::ClientMessage(wire::Release{unsent_releases_.back()}));
    // Never waits, because this may be the thread that empties the other ring.
    if (channel_->send(message, kAtOnce) != wire::Sent::kYes) return;
    unsent_releases_.pop_back();
  }
}

void ShmConnection::lose(const std::string& reason, std::exception_ptr pending_error) {
  std::unordered_map<uint64_t, std::promise<Buffer>> pending;
  {
    const std::lock_guard lock(mutex_);
    if (lost_.empty()) lost_ = fmt::format("{}: {}", uri_, reason);
    if (!pending_error) pending_error = std::make_exception_ptr(WorkerLostError(lost_));
    pending.swap(pending_);
  }
  channel_->close();
  operands_->close();
  answered_.notify_all();
  for (auto& [number, promise] : pending) promise.set_exception(pending_error);
}

void ShmConnection::throw_if_lost() const {
  const std::lock_guard lock(mutex_);
  if (!lost_.empty()) throw WorkerLostError(lost_);
}

}  // namespace tempo::offload
