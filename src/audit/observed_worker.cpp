#include "audit/observed_worker.h"

namespace tempo::audit {

using contract::Buffer;

void ObservedWorker::put(contract::OperandId id, Buffer operand) {
  listener_->on_put(id, operand);
  inner_->put(id, std::move(operand));
}

void ObservedWorker::free(std::vector<contract::OperandId> ids) {
  listener_->on_free(ids);
  inner_->free(std::move(ids));
}

std::future<Buffer> ObservedWorker::submit(contract::Operation operation) {
  const uint64_t number = operations_++;
  listener_->on_operation(number, operation);
  auto reply = std::make_shared<std::future<Buffer>>(inner_->submit(operation));
  // Deferred: runs when the master asks for the reply, on the master's thread.
  return std::async(std::launch::deferred, [reply, number, operation, listener = listener_] {
    Buffer buffer = reply->get();
    listener->on_reply(number, operation, buffer);
    return buffer;
  });
}

}  // namespace tempo::audit
