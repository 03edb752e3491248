#include "worker/server/shm_session.h"

#include <fmt/format.h>

#include <cstring>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "tempo/error.h"
#include "wire/shm_area.h"
#include "wire/timeouts.h"
#include "worker/executor.h"
#include "worker/server/pinned_memory.h"
#include "worker/server/process_memory.h"

namespace tempo::worker {

using contract::Buffer;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kHelloPatience{10'000};
constexpr milliseconds kReleasePatience{5'000};  // for a master that holds all of the reply area
constexpr milliseconds kReadPatience{30'000};    // for a master that reads nothing: its session ends then
constexpr milliseconds kGoodbyePatience{100};

}  // namespace

/// The segment and the way back to the master. Lives as long as an operand in it is used.
class ShmSession::Memory : public std::enable_shared_from_this<ShmSession::Memory> {
 public:
  Memory(const wire::UniqueDescriptor& file, wire::UniqueDescriptor socket, const std::string& device)
      : segment_(file),
        pinned_(segment_.bytes(), device),
        channel_(segment_, std::move(socket), wire::ShmSide::kWorker) {}

  [[nodiscard]] const wire::ShmSegment& segment() const { return segment_; }
  [[nodiscard]] wire::ShmChannel& channel() { return channel_; }

  /// A master that reads nothing loses its session.
  void send(const wire::ServerMessage& message, milliseconds patience = kReadPatience) noexcept {
    try {
      if (channel_.send(wire::encode(message), patience) == wire::Sent::kYes) return;
    } catch (const std::exception&) {
      // It claims what cannot be: it goes, too.
    }
    channel_.close();
  }

  /// An operand where it lies. The master is told once the last product that reads it is done and it is freed.
  Buffer operand(const wire::Put& put) {
    const uint64_t bytes = put.spec.bytes();
    const wire::ShmRange operands = segment_.layout().operands();
    if (put.offset % wire::kShmAlignment != 0 || !operands.holds(put.offset, wire::shm_footprint(bytes)))
      throw ProtocolError(fmt::format("operand of {} bytes at {}, expected it within {} to {}, at a multiple of {}",
                                      bytes, put.offset, operands.begin, operands.end, wire::kShmAlignment));
    std::shared_ptr<std::byte> data(segment_.at(put.offset), [self = shared_from_this(), at = put.offset](std::byte*) {
      self->send(wire::Freed{at});
    });
    return {put.spec, std::move(data), true};
  }

 private:
  wire::ShmSegment segment_;
  PinnedMemory pinned_;
  wire::ShmChannel channel_;
};

/// Results in the reply area, and their announcements.
class ShmSession::Replies final : public Session::Listener {
 public:
  Replies(Memory& memory, SessionMonitor& monitor)
      : memory_(memory), monitor_(monitor), area_(memory.segment().layout().replies()) {}

  /// None where the master holds all of it: `replied` then says so.
  std::optional<Buffer> memory_for(const contract::TensorSpec& spec) override {
    const auto offset = area_.allocate(spec.bytes(), kReleasePatience);
    if (!offset) return std::nullopt;
    {
      const std::lock_guard lock(mutex_);
      unsent_.insert(*offset);
    }
    std::shared_ptr<std::byte> memory(memory_.segment().at(*offset),
                                      [this, at = *offset](std::byte*) { give_back_unsent(at); });
    return Buffer(spec, std::move(memory), true);
  }

  void replied(uint64_t number, Buffer result) override {
    std::optional<uint64_t> offset = take_unsent(result);
    if (!offset && (offset = area_.allocate(result.bytes(), std::chrono::milliseconds(0))) && result.bytes() > 0)
      std::memcpy(memory_.segment().at(*offset), result.data(), result.bytes());
    if (!offset) {
      monitor_.reply_refused(number, result.bytes());
      return refused(number, no_room(result.bytes()));
    }
    // Let go of before the master may release it: its place could be the next result's by then.
    const contract::TensorSpec spec = result.spec();
    result = {};
    memory_.send(wire::Reply{.number = number, .spec = spec, .offset = *offset});
  }

  void refused(uint64_t number, const std::string& reason) override {
    memory_.send(wire::Refusal{.number = number, .reason = reason});
  }

  void release(uint64_t offset) {
    if (!area_.release(offset))
      throw ProtocolError(fmt::format("release of {}, where no reply lies that is in use", offset));
  }
  void close() { area_.close(); }

 private:
  /// Where a result lies that was given memory here. From now on it is the master's to release.
  std::optional<uint64_t> take_unsent(const Buffer& result) {
    const uint64_t offset =
        reinterpret_cast<uintptr_t>(result.data()) - reinterpret_cast<uintptr_t>(memory_.segment().at(0));
    const std::lock_guard lock(mutex_);
    return unsent_.erase(offset) > 0 ? std::optional(offset) : std::nullopt;
  }
  /// Gives back the memory of an operation that was refused after all.
  void give_back_unsent(uint64_t offset) {
    const std::lock_guard lock(mutex_);
    if (unsent_.erase(offset) > 0) static_cast<void>(area_.release(offset));
  }

  [[nodiscard]] std::string no_room(uint64_t bytes) const {
    return fmt::format(
        "worker: no reply memory for {} bytes ({} of {} in use); release replies, or start the worker "
        "with a larger segment",
        bytes, area_.used(), area_.bytes());
  }

  Memory& memory_;
  SessionMonitor& monitor_;
  wire::ShmArea area_;
  std::mutex mutex_;
  std::unordered_set<uint64_t> unsent_;  // offsets given out for results that are not announced yet
};

ShmSession::ShmSession(wire::UniqueDescriptor socket, const ServerOptions& options) : options_(options) {
  wire::check_shm_peer(socket);
  const wire::UniqueDescriptor file = wire::create_shm_file(options.segment_bytes);
  if (!wire::send_shm_file(socket, file)) throw ProtocolError("the master left before it had a segment");
  memory_ = std::make_shared<Memory>(file, std::move(socket), options.device);
}

ShmSession::~ShmSession() = default;

void ShmSession::run() noexcept {
  Ending ending;
  try {
    monitor_ = options_.monitor->session_began("shm");
    replies_ = std::make_unique<Replies>(*memory_, *monitor_);
    greet();
    session_ = make_session(options_, *replies_, monitor_);
    serve();
    if (is_stopping_) ending.how = SessionEnd::kWorkerStopped;
  } catch (const std::exception& error) {
    say_goodbye(error.what());
    ending = ended_by(error);
  }
  memory_->channel().close();
  if (replies_) replies_->close();  // or the session would wait for a master that is gone
  session_.reset();
  replies_.reset();
  monitor_->ended(ending);
}

void ShmSession::stop() {
  is_stopping_ = true;
  say_goodbye("the worker stops");
  memory_->channel().close();
}

void ShmSession::greet() {
  std::vector<std::byte> bytes;
  if (memory_->channel().receive(bytes, kHelloPatience) != wire::Arrival::kMessage)
    throw ProtocolError("no hello in time");
  const wire::ClientMessage message = wire::decode_client_message(bytes);
  const auto* hello = std::get_if<wire::Hello>(&message);
  if (hello == nullptr || hello->protocol != wire::kProtocol)
    throw ProtocolError(fmt::format("the first message is not a hello of protocol {}", wire::kProtocol));
  memory_->send(wire::Welcome{.protocol = wire::kProtocol,
                              .version = Executor::version(),
                              .device = options_.device,
                              .memory_bytes = machine_memory(),
                              .collective = options_.collective_address()});
}

void ShmSession::serve() {
  std::vector<std::byte> bytes;
  while (memory_->channel().receive(bytes, wire::kForever) == wire::Arrival::kMessage)
    std::visit([this](const auto& message) { handle(message); }, wire::decode_client_message(bytes));
}

void ShmSession::say_goodbye(const std::string& reason) noexcept {
  memory_->send(wire::Goodbye{reason}, kGoodbyePatience);
}

void ShmSession::handle(const wire::Hello&) { throw ProtocolError("a second hello"); }

void ShmSession::handle(const wire::Chunk&) { throw ProtocolError("a chunk, expected offsets"); }

void ShmSession::handle(const wire::Put& put) { session_->put(put.operand, memory_->operand(put)); }

void ShmSession::handle(const wire::Free& freed) { session_->free(freed.operands); }

void ShmSession::handle(const wire::Submit& submit) { session_->submit(submit.number, submit.operation); }

void ShmSession::handle(const wire::Release& release) { replies_->release(release.offset); }

}  // namespace tempo::worker
