// A worker that fails once in a chosen way.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "tempo/error.h"
#include "tempo/worker.h"

namespace tempo::testing {

enum class Fault {
  kNone,
  kDies,        ///< every call from then on fails, and so does what was under way
  kHangs,       ///< never answers again
  kIsLate,      ///< answers one operation after a second and a half
  kWrongShape,  ///< answers one operation with a row too many
  kRefuses,     ///< refuses one operation
};

/// Thread-safe as far as its inner worker is.
class FaultyWorker final : public contract::Worker {
 public:
  /// @param after operations that go well first.
  FaultyWorker(std::shared_ptr<contract::Worker> inner, std::string name, Fault fault = Fault::kNone, int after = 0)
      : inner_(std::move(inner)), name_(std::move(name)), fault_(fault), after_(after) {}
  ~FaultyWorker() override {
    for (auto& promise : unanswered_)
      promise.set_exception(std::make_exception_ptr(WorkerLostError(name_ + ": the connection was closed")));
  }

  contract::WorkerDescription describe() override {
    auto description = inner_->describe();
    description.name = name_;
    return description;
  }
  contract::Buffer allocate(const contract::TensorSpec& spec) override { return inner_->allocate(spec); }
  void put(contract::OperandId id, contract::Buffer operand) override {
    throw_if_dead();
    inner_->put(id, std::move(operand));
  }
  void free(std::vector<contract::OperandId> ids) override {
    throw_if_dead();
    inner_->free(std::move(ids));
  }
  std::future<contract::Buffer> submit(contract::Operation operation) override {
    throw_if_dead();
    const bool is_now = after_-- == 0;
    if (is_silent_ || (is_now && fault_ == Fault::kHangs)) {
      is_silent_ = true;
      return unanswered_.emplace_back().get_future();
    }
    auto reply = inner_->submit(std::move(operation));
    // Deferred futures are never "ready": a pool looks at them as at a transport's, so this one has a thread.
    if (slowness_.count() > 0 || is_now)
      return std::async(std::launch::async, [this, is_now, reply = std::move(reply)]() mutable {
        return answer(is_now ? fault_ : Fault::kNone, reply.get());
      });
    return reply;
  }

  /// From now on every operation takes so long for every thousand elements of its result.
  void be_slow(std::chrono::microseconds per_thousand) { slowness_ = per_thousand; }
  void die() { is_dead_ = true; }
  /// Operations so far, of a worker that was made without ones that go well first.
  [[nodiscard]] int submitted() const { return -after_; }

 private:
  contract::Buffer answer(Fault fault, contract::Buffer result) {
    std::this_thread::sleep_for(slowness_ * result.spec().elements() / 1000);
    switch (fault) {
      case Fault::kDies:
        is_dead_ = true;
        throw_if_dead();
        break;
      case Fault::kIsLate:
        std::this_thread::sleep_for(std::chrono::milliseconds(1500));
        break;
      case Fault::kWrongShape: {
        auto spec = result.spec();
        ++spec.shape.front();
        return contract::Buffer::allocate(spec);
      }
      case Fault::kRefuses:
        throw ProtocolError(name_ + ": worker: no room");
      default:
        break;
    }
    return result;
  }
  void throw_if_dead() const {
    if (is_dead_) throw WorkerLostError(name_ + ": the worker ended");
  }

  std::shared_ptr<contract::Worker> inner_;
  const std::string name_;
  const Fault fault_;
  std::atomic<int> after_;
  std::atomic<bool> is_dead_ = false;
  bool is_silent_ = false;
  std::chrono::microseconds slowness_{0};
  std::vector<std::promise<contract::Buffer>> unanswered_;
};

}  // namespace tempo::testing
