/// The master's end of one gRPC session: what is under way, how large its result may be, and what became of the worker.
#pragma once

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "offload/transport/grpc.h"
#include "offload/transport/grpc_client_stream.h"
#include "wire/messages.h"

namespace tempo::offload {

/// Thread-safe.
class GrpcConnection {
 public:
  /// @param uri for messages. @throws as make_grpc_worker.
  GrpcConnection(std::string uri, const std::shared_ptr<grpc::Channel>& channel, const GrpcOptions& options);
  ~GrpcConnection();
  GrpcConnection(const GrpcConnection&) = delete;
  GrpcConnection& operator=(const GrpcConnection&) = delete;

  [[nodiscard]] const std::string& uri() const { return uri_; }
  [[nodiscard]] const wire::Welcome& welcome() const { return welcome_; }

  void put(OperandId id, const Buffer& operand);
  void free(std::vector<OperandId> ids);
  std::future<Buffer> submit(Operation operation);

  /// Handles all that the worker sends, until it or `close` ends the session; on a thread of its own.
  void receive_all();
  void close();

 private:
  struct Pending {
    std::promise<Buffer> promise;
    uint64_t max_bytes = 0;  ///< of its reply
  };

  void connect(const std::shared_ptr<grpc::Channel>& channel);
  wire::Welcome greet();
  /// All of these with send_mutex_ held.
  void send(const wire::ClientMessage& message);
  void check_sent(wire::GrpcStream::Sent sent);
  uint64_t max_bytes_of(const Operation& operation) const;

  void handle(const wire::ReceivedFrame& frame);
  void handle(const wire::Reply& reply);
  void handle(const wire::Refusal& refusal);
  void complete(uint64_t number, Buffer result);
  std::promise<Buffer> take(uint64_t number);
  uint64_t pending_max_bytes(uint64_t number) const;

  /// The session is over. The first reason stays; `pending_error` is what waiting futures throw.
  void lose(const std::string& reason, std::exception_ptr pending_error = nullptr);
  void throw_if_lost() const;

  const std::string uri_;
  const GrpcOptions options_;
  std::shared_ptr<GrpcClientStream> stream_;
  wire::Welcome welcome_;

  std::mutex send_mutex_;  // messages of a tensor stay together, operations go out in the order of their numbers
  uint64_t next_number_ = 1;
  std::unordered_map<OperandId, TensorSpec> operands_;  // as the worker has them, once it has read so far

  wire::TensorReceiver receiver_;  // of the receiving thread, as is the next
  uint64_t receiving_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::unordered_map<uint64_t, Pending> pending_;
  std::string lost_;  // why; empty while the session lives
};

}  // namespace tempo::offload
