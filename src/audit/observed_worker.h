/// A worker that tells someone everything it is asked and everything it answers: exactly what its owner could log.
#pragma once

#include <functional>
#include <memory>

#include "tempo/worker.h"

namespace tempo::audit {

/// Calls come on the master's thread, in the order in which the worker would see them.
class WorkerListener {
 public:
  virtual ~WorkerListener() = default;
  virtual void on_put(contract::OperandId id, const contract::Buffer& operand) = 0;
  virtual void on_free(const std::vector<contract::OperandId>& ids) = 0;
  /// Before the operation starts. @param number counts operations from 0.
  virtual void on_operation(uint64_t number, const contract::Operation& operation) = 0;
  /// When the master takes the reply.
  virtual void on_reply(uint64_t number, const contract::Operation& operation, const contract::Buffer& reply) = 0;
};

/// Passes everything through to `inner`. Both are borrowed by shared ownership.
class ObservedWorker final : public contract::Worker {
 public:
  ObservedWorker(std::shared_ptr<contract::Worker> inner, std::shared_ptr<WorkerListener> listener)
      : inner_(std::move(inner)), listener_(std::move(listener)) {}

  contract::WorkerDescription describe() override { return inner_->describe(); }
  contract::Buffer allocate(const contract::TensorSpec& spec) override { return inner_->allocate(spec); }
  void put(contract::OperandId id, contract::Buffer operand) override;
  void free(std::vector<contract::OperandId> ids) override;
  std::future<contract::Buffer> submit(contract::Operation operation) override;

 private:
  std::shared_ptr<contract::Worker> inner_;
  std::shared_ptr<WorkerListener> listener_;
  uint64_t operations_ = 0;
};

}  // namespace tempo::audit
