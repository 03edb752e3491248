/// One master of a gRPC server: its stream and its operands. UNTRUSTED side; and it does not trust the master: whatever
/// that sends, only its own session can suffer.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "wire/grpc_stream.h"
#include "wire/messages.h"
#include "worker/server/server.h"
#include "worker/session.h"

namespace tempo::worker {

class GrpcSession final : public Session::Listener {
 public:
  GrpcSession(std::shared_ptr<wire::GrpcStream> stream, const ServerOptions& options);
  ~GrpcSession() override;
  GrpcSession(const GrpcSession&) = delete;
  GrpcSession& operator=(const GrpcSession&) = delete;

  /// Serves until the master leaves, breaks the protocol, or `stop` is called; then frees all it stored.
  void run() noexcept;
  /// From any thread. A running product is finished and its result sent before the goodbye.
  void stop();
  /// From any thread: nothing more is sent.
  void cut_off();

 private:
  void greet();
  void serve();
  /// False if none comes any more.
  bool receive(grpc::ByteBuffer& frame);

  void handle(const wire::Hello&, const wire::ReceivedFrame&);
  void handle(const wire::Put& put, const wire::ReceivedFrame&);
  void handle(const wire::Chunk& chunk, const wire::ReceivedFrame& frame);
  void handle(const wire::Free& freed, const wire::ReceivedFrame&);
  void handle(const wire::Submit& submit, const wire::ReceivedFrame&);
  void handle(const wire::Release&, const wire::ReceivedFrame&);

  void replied(uint64_t number, contract::Buffer result) override;
  void refused(uint64_t number, const std::string& reason) override;
  void check_sent(wire::GrpcStream::Sent sent);
  bool forget_fetch(uint64_t number);

  const std::shared_ptr<wire::GrpcStream> stream_;
  const ServerOptions options_;
  std::atomic<bool> is_stopping_ = false;
  wire::TensorReceiver receiver_;
  contract::OperandId receiving_ = 0;

  std::mutex fetches_mutex_;
  std::unordered_set<uint64_t> fetches_;  // under way: their results are stored operands

  std::shared_ptr<SessionMonitor> monitor_ = std::make_shared<SessionMonitor>();
  std::unique_ptr<Session> session_;  // last: its thread uses everything above
};

}  // namespace tempo::worker
