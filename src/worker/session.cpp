#include "worker/session.h"

#include <fmt/format.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "tempo/error.h"
#include "worker/executor.h"

namespace tempo::worker {

using offload::Buffer;
using offload::OperandId;

struct Session::State {
  State(const std::string& device, int product_threads, const SessionLimits& session_limits, Listener& session_listener)
      : limits(session_limits), listener(session_listener), executor(device), threads(product_threads) {}

  void enqueue(std::function<void()> job, bool is_operation) {
    {
      const std::lock_guard lock(mutex);
      if (is_operation && waiting >= limits.waiting_operations)
        throw ProtocolError(fmt::format("worker: got operation {} in waiting, expected at most {}", waiting + 1,
                                        limits.waiting_operations));
      // Puts and frees wait behind operations, and are bounded with them.
      if (jobs.size() >= 8 * limits.waiting_operations)
        throw ProtocolError(fmt::format("worker: got {} messages faster than they can be carried out", jobs.size()));
      waiting += is_operation ? 1 : 0;
      jobs.push_back(std::move(job));
    }
    ready.notify_one();
  }

  void serve() {
    Executor::set_threads(threads);
    for (;;) {
      std::function<void()> job;
      {
        std::unique_lock lock(mutex);
        ready.wait(lock, [this] { return is_stopping || !jobs.empty(); });
        if (is_stopping) return;
        job = std::move(jobs.front());
        jobs.pop_front();
      }
      job();
    }
  }

  void put(OperandId id, const Buffer& operand) {
    missing.erase(id);
    if (limits.memory_bytes > 0 && executor.stored_bytes() + operand.bytes() > limits.memory_bytes) {
      missing[id] = fmt::format("worker: operand {} of {} bytes does not fit: {} of {} bytes are in use", id,
                                operand.bytes(), executor.stored_bytes(), limits.memory_bytes);
      executor.free({id});
      return;
    }
    try {
      executor.put(id, operand);
    } catch (const std::exception& error) {  // out of device memory, say
      missing[id] = fmt::format("worker: operand {} could not be stored: {}", id, error.what());
    }
  }

  void free(const std::vector<OperandId>& ids) {
    executor.free(ids);
    for (const OperandId id : ids) missing.erase(id);
  }

  /// Why an operation cannot have what it names.
  [[nodiscard]] const std::string* missing_for(const offload::Operation& operation) const {
    const auto find = [this](std::initializer_list<OperandId> ids) -> const std::string* {
      for (const OperandId id : ids)
        if (const auto found = missing.find(id); found != missing.end()) return &found->second;
      return nullptr;
    };
    struct Visitor {
      decltype(find)& among;
      const std::string* operator()(const offload::Forward& op) const { return among({op.x, op.w}); }
      const std::string* operator()(const offload::InputGradient& op) const { return among({op.dy, op.w}); }
      const std::string* operator()(const offload::WeightGradient& op) const { return among({op.x, op.dy}); }
      const std::string* operator()(const offload::Update& op) const { return among({op.w, op.velocity, op.dw}); }
      const std::string* operator()(const offload::Fetch& op) const { return among({op.operand}); }
    };
    return std::visit(Visitor{find}, operation);
  }

  void run(uint64_t number, const offload::Operation& operation) {
    {
      const std::lock_guard lock(mutex);
      --waiting;
    }
    if (const std::string* reason = missing_for(operation)) return listener.refused(number, *reason);
    Buffer result;
    try {
      result = executor.run(operation);
    } catch (const std::exception& error) {
      return listener.refused(number, error.what());
    }
    listener.replied(number, std::move(result));
  }

  const SessionLimits limits;
  Listener& listener;
  Executor executor;                                   // of the session's thread alone
  std::unordered_map<OperandId, std::string> missing;  // why; likewise
  int threads;
  mutable std::mutex mutex;
  std::condition_variable ready;
  std::deque<std::function<void()>> jobs;
  size_t waiting = 0;
  bool is_stopping = false;
  std::thread thread;
};

Session::Session(const std::string& device, int threads, const SessionLimits& limits, Listener& listener)
    : state_(std::make_unique<State>(device, threads, limits, listener)) {
  state_->thread = std::thread([state = state_.get()] { state->serve(); });
}

Session::~Session() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->is_stopping = true;
  }
  state_->ready.notify_one();
  state_->thread.join();
}

void Session::put(OperandId id, Buffer operand) {
  const uint64_t most = state_->limits.memory_bytes;
  if (most > 0 && operand.bytes() > most)
    throw ProtocolError(fmt::format("worker: got an operand of {} bytes, expected at most {}", operand.bytes(), most));
  state_->enqueue([state = state_.get(), id, operand = std::move(operand)] { state->put(id, operand); }, false);
}

void Session::free(std::vector<OperandId> ids) {
  state_->enqueue([state = state_.get(), ids = std::move(ids)] { state->free(ids); }, false);
}

void Session::submit(uint64_t number, offload::Operation operation) {
  state_->enqueue([state = state_.get(), number, operation = std::move(operation)] { state->run(number, operation); },
                  true);
}

}  // namespace tempo::worker
