/// What a worker tells about itself while it serves: how many, how large, how long. Never a value, and never text that
/// a master chose. The base classes hear everything and keep nothing, so that whoever does not watch passes them.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "tempo/worker.h"

namespace tempo::worker {

/// What may be said of an operation.
struct OperationTag {
  uint64_t number = 0;           ///< chosen by the master
  size_t kind = 0;               ///< index in contract::Operation
  std::optional<uint64_t> step;  ///< of an update
};
inline OperationTag tag_of(uint64_t number, const contract::Operation& operation) {
  const auto* update = std::get_if<contract::Update>(&operation);
  return {.number = number, .kind = operation.index(), .step = update ? std::optional(update->step) : std::nullopt};
}

enum class RefusalCause : uint8_t { kOperandMissing, kTooLarge, kNotComputable };
enum class SessionEnd : uint8_t { kMasterLeft, kWorkerStopped, kProtocolError, kFailed };

struct Ending {
  SessionEnd how = SessionEnd::kMasterLeft;
  std::string detail;  ///< of kProtocolError: the error's message, which is ours
};
/// What to tell of a session that an error ended. Messages of libraries are left out: nobody knows what is in them.
Ending ended_by(const std::exception& error);

/// Hears of one session. Called from its threads, some at the same time; never throws, never waits.
class SessionMonitor {
 public:
  virtual ~SessionMonitor() = default;

  /// An operand came.
  virtual void received(uint64_t /*bytes*/) noexcept {}
  /// So much is stored now.
  virtual void stored(uint64_t /*bytes*/) noexcept {}
  /// Carried out; the reply is about to leave. @param seconds in the executor.
  virtual void done(const OperationTag&, double /*seconds*/, uint64_t /*reply_bytes*/) noexcept {}
  virtual void refused(const OperationTag&, RefusalCause) noexcept {}
  /// An operation was done, but its result had no room on the way back: the master was told that it is refused.
  virtual void reply_refused(uint64_t /*number*/, uint64_t /*bytes*/) noexcept {}
  /// The last call.
  virtual void ended(const Ending&) noexcept {}
};

/// Hears of all sessions of a process. Thread-safe; never throws for want of anything but memory.
class Monitor {
 public:
  virtual ~Monitor() = default;

  /// A master connected; it has not said hello yet. @param transport "shm", "grpc".
  virtual std::shared_ptr<SessionMonitor> session_began(std::string_view /*transport*/) {
    return std::make_shared<SessionMonitor>();
  }
  /// A master was turned away, because as many are served as may be.
  virtual void session_refused(std::string_view /*transport*/) noexcept {}
};

}  // namespace tempo::worker
