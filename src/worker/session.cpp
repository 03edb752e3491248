#include "worker/session.h"

#include <fmt/format.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "observe/standard_streams.h"
#include "tempo/error.h"
#include "wire/reply_size.h"
#include "worker/completions.h"
#include "worker/executor.h"

namespace tempo::worker {

using contract::Buffer;
using contract::ElementType;
using contract::OperandId;
using contract::TensorSpec;

namespace {

constexpr uint64_t kMaxWaitingBytes = uint64_t{256} << 20;  // beyond it a server reads no further
constexpr uint64_t kJobBytes = 512;                         // what a job takes besides its operand

/// What is stored, by what was asked for: the executor's tensors may lie on a device.
class Stored {
 public:
  void put(OperandId id, TensorSpec spec) {
    erase(id);
    bytes_ += spec.bytes();
    specs_.emplace(id, std::move(spec));
  }
  void erase(OperandId id) {
    const auto found = specs_.find(id);
    if (found == specs_.end()) return;
    bytes_ -= found->second.bytes();
    specs_.erase(found);
  }
  [[nodiscard]] const TensorSpec* find(OperandId id) const {
    const auto found = specs_.find(id);
    return found == specs_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  /// What is there without `id`, which is about to be replaced.
  [[nodiscard]] uint64_t bytes_without(OperandId id) const {
    const TensorSpec* spec = find(id);
    return bytes_ - (spec == nullptr ? 0 : spec->bytes());
  }
  [[nodiscard]] size_t count() const { return specs_.size(); }

 private:
  std::unordered_map<OperandId, TensorSpec> specs_;
  uint64_t bytes_ = 0;
};

}  // namespace

struct Session::State {
  struct Job {
    std::function<void()> run;
    uint64_t bytes = 0;
  };

  State(std::unique_ptr<Arithmetic> operations, int product_threads, const SessionLimits& session_limits,
        Listener& session_listener, std::shared_ptr<SessionMonitor> session_monitor)
      : limits(session_limits),
        listener(session_listener),
        monitor(std::move(session_monitor)),
        arithmetic(std::move(operations)),
        threads(product_threads) {}

  void enqueue(std::function<void()> job, uint64_t bytes, bool is_operation) {
    {
      const std::lock_guard lock(mutex);
      if (is_operation && waiting >= limits.waiting_operations)
        throw ProtocolError(fmt::format("worker: got operation {} in waiting, expected at most {}", waiting + 1,
                                        limits.waiting_operations));
      // Puts and frees wait behind operations, and are bounded with them.
      if (jobs.size() >= 8 * limits.waiting_operations)
        throw ProtocolError(fmt::format("worker: got {} messages faster than they can be carried out", jobs.size()));
      waiting += is_operation ? 1 : 0;
      waiting_bytes += bytes + kJobBytes;
      jobs.push_back({std::move(job), bytes + kJobBytes});
    }
    changed.notify_all();
  }

  void serve() {
    Executor::set_threads(threads);
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return is_stopping || !jobs.empty(); });
      if (is_stopping) return;
      Job job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      job.run();
      job.run = nullptr;  // lets go of its operand
      monitor->stored(stored.bytes());
      lock.lock();
      waiting_bytes -= job.bytes;
      changed.notify_all();
    }
  }

  [[nodiscard]] bool has_room() const {
    return waiting < limits.waiting_operations / 2 + 1 && jobs.size() < 4 * limits.waiting_operations &&
           waiting_bytes < kMaxWaitingBytes;
  }

  /// Why there is no room for an operand; empty if there is.
  [[nodiscard]] std::string no_room(OperandId id, uint64_t bytes) const {
    const uint64_t used = stored.bytes_without(id);
    if (limits.memory_bytes > 0 && used + bytes > limits.memory_bytes)
      return fmt::format("worker: operand {} of {} bytes does not fit: {} of {} bytes are in use", id, bytes, used,
                         limits.memory_bytes);
    if (stored.find(id) == nullptr && stored.count() >= limits.operands)
      return fmt::format("worker: operand {} does not fit: {} operands are stored", id, stored.count());
    return {};
  }

  /// Notes why an operand is missing. Beyond the limit of operands it is only not stored.
  void miss(OperandId id, std::string reason) {
    arithmetic->free({id});
    stored.erase(id);
    if (missing.size() < limits.operands) missing[id] = std::move(reason);
  }

  void put(OperandId id, const Buffer& operand) {
    missing.erase(id);
    if (std::string reason = no_room(id, operand.bytes()); !reason.empty()) return miss(id, std::move(reason));
    try {
      // A device that fails here fails what comes after it, too.
      if (Completion copied = arithmetic->put(id, operand)) completions.add(std::move(copied), [](const auto&) {});
      stored.put(id, operand.spec());
    } catch (const std::exception& error) {  // out of device memory, say
      miss(id, fmt::format("worker: operand {} could not be stored: {}", id, observe::first_line(error.what())));
    }
  }

  void free(const std::vector<OperandId>& ids) {
    arithmetic->free(ids);
    for (const OperandId id : ids) {
      stored.erase(id);
      missing.erase(id);
    }
  }

  /// Why a result is more than a master may have; empty if it is not.
  [[nodiscard]] std::string too_large(const contract::Operation& operation,
                                      const std::optional<TensorSpec>& result) const {
    const uint64_t bytes = result ? wire::saturated_bytes(*result) : 0;
    if (limits.memory_bytes > 0 && bytes > limits.memory_bytes)
      return fmt::format("worker: {} with a result of {} bytes refused, expected at most {}",
                         contract::operation_name(operation), bytes, limits.memory_bytes);
    const OperandId kept = kept_by(operation);
    return kept == 0 ? std::string() : no_room(kept, bytes);
  }

  /// The id under which a gradient stays, or 0.
  static OperandId kept_by(const contract::Operation& operation) {
    const auto* gradient = std::get_if<contract::WeightGradient>(&operation);
    return gradient == nullptr ? 0 : gradient->keep_as;
  }

  /// Why an operation cannot have what it names.
  [[nodiscard]] const std::string* missing_for(const contract::Operation& operation) const {
    const auto find = [this](std::initializer_list<OperandId> ids) -> const std::string* {
      for (const OperandId id : ids)
        if (const auto found = missing.find(id); found != missing.end()) return &found->second;
      return nullptr;
    };
    struct Visitor {
      decltype(find)& among;
      const std::string* operator()(const contract::Forward& op) const { return among({op.x, op.w}); }
      const std::string* operator()(const contract::InputGradient& op) const { return among({op.dy, op.w}); }
      const std::string* operator()(const contract::WeightGradient& op) const {
        const std::string* reason = among({op.x, op.dy});
        for (size_t i = 0; reason == nullptr && i < op.further.size(); ++i)
          reason = among({op.further[i].x, op.further[i].dy});
        return reason;
      }
      const std::string* operator()(const contract::Update& op) const { return among({op.w, op.velocity, op.dw}); }
      const std::string* operator()(const contract::Fetch& op) const { return among({op.operand}); }
      const std::string* operator()(const contract::JoinGroup&) const { return nullptr; }
      const std::string* operator()(const contract::AllReduce& op) const { return among({op.operand}); }
    };
    return std::visit(Visitor{find}, operation);
  }

  void refuse(const OperationTag& operation, RefusalCause cause, const std::string& reason) {
    completions.add({}, [this, operation, cause, reason](const auto&) {
      monitor->refused(operation, cause);
      listener.refused(operation.number, reason);
    });
  }

  /// Hands a result over once it is there.
  void reply(const OperationTag& tag, Started started, std::chrono::steady_clock::time_point begin) {
    completions.add(std::move(started.completion),
                    [this, tag, begin, result = std::move(started.result)](const std::exception_ptr& error) mutable {
                      if (error) {
                        monitor->refused(tag, RefusalCause::kNotComputable);
                        return listener.refused(tag.number, message_of(error));
                      }
                      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
                      monitor->done(tag, seconds.count(), result.bytes());
                      listener.replied(tag.number, std::move(result));
                    });
  }

  static std::string message_of(const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& known) {
      return std::string(observe::first_line(known.what()));
    }
  }

  void run(uint64_t number, const contract::Operation& operation) {
    {
      const std::lock_guard lock(mutex);
      --waiting;
    }
    const OperationTag tag = tag_of(number, operation);
    const std::string* missing_because = missing_for(operation);
    // A sum that this worker has no operand for: the others of the group must be told, or would wait for it.
    const bool is_awaited = std::holds_alternative<contract::AllReduce>(operation);
    if (missing_because != nullptr && !is_awaited) return refuse(tag, RefusalCause::kOperandMissing, *missing_because);
    try {
      const auto spec = wire::result_spec(operation, [this](OperandId id) { return stored.find(id); });
      if (const std::string reason = too_large(operation, spec); !reason.empty())
        return refuse(tag, RefusalCause::kTooLarge, reason);
      const auto begin = std::chrono::steady_clock::now();
      Started started =
          arithmetic->start(operation, [this](const TensorSpec& result) { return listener.memory_for(result); });
      if (const OperandId kept = kept_by(operation); kept != 0 && spec) stored.put(kept, *spec);
      reply(tag, std::move(started), begin);
    } catch (const std::exception& error) {
      refuse(tag, RefusalCause::kNotComputable,
             missing_because == nullptr ? std::string(observe::first_line(error.what())) : *missing_because);
    }
  }

  const SessionLimits limits;
  Listener& listener;
  const std::shared_ptr<SessionMonitor> monitor;
  // These are of the session's thread alone.
  std::unique_ptr<Arithmetic> arithmetic;
  Stored stored;
  std::unordered_map<OperandId, std::string> missing;  // why
  int threads;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<Job> jobs;
  size_t waiting = 0;          // operations
  uint64_t waiting_bytes = 0;  // of jobs not yet done
  bool is_stopping = false;
  Completions completions;
  std::thread thread;
};

Session::Session(const std::string& device, int threads, const SessionLimits& limits, Listener& listener,
                 std::shared_ptr<SessionMonitor> monitor, std::shared_ptr<Collective> collective)
    : Session(std::make_unique<Executor>(device, std::move(collective)), threads, limits, listener,
              std::move(monitor)) {}

Session::Session(std::unique_ptr<Arithmetic> arithmetic, int threads, const SessionLimits& limits, Listener& listener,
                 std::shared_ptr<SessionMonitor> monitor)
    : state_(std::make_unique<State>(std::move(arithmetic), threads, limits, listener, std::move(monitor))) {
  state_->thread = std::thread([state = state_.get()] { state->serve(); });
}

Session::~Session() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->is_stopping = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

void Session::put(OperandId id, Buffer operand) {
  const uint64_t most = state_->limits.memory_bytes;
  if (most > 0 && operand.bytes() > most)
    throw ProtocolError(fmt::format("worker: got an operand of {} bytes, expected at most {}", operand.bytes(), most));
  const uint64_t bytes = operand.bytes();
  state_->monitor->received(bytes);
  state_->enqueue([state = state_.get(), id, operand = std::move(operand)] { state->put(id, operand); }, bytes, false);
}

void Session::free(std::vector<OperandId> ids) {
  const uint64_t bytes = ids.size() * sizeof(OperandId);
  state_->enqueue([state = state_.get(), ids = std::move(ids)] { state->free(ids); }, bytes, false);
}

void Session::submit(uint64_t number, contract::Operation operation) {
  state_->enqueue([state = state_.get(), number, operation = std::move(operation)] { state->run(number, operation); },
                  0, true);
}

bool Session::wait_for_room(std::chrono::milliseconds patience) {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, patience, [this] { return state_->has_room(); });
}

}  // namespace tempo::worker
