/// The master's end of one gRPC session: operations under way, limits of their results, and loss of the worker.
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
  /// @param uri the worker's name in messages. @throws as make_grpc_worker.
  GrpcConnection(std::string uri, const std::shared_ptr<grpc::Channel>& channel, const GrpcOptions& options);
  ~GrpcConnection();
  GrpcConnection(const GrpcConnection&) = delete;
  GrpcConnection& operator=(const GrpcConnection&) = delete;

  [[nodiscard]] const std::string& uri() const { return uri_; }
  [[nodiscard]] const wire::Welcome& welcome() const { return welcome_; }

  void put(OperandId id, const Buffer& operand);
  void free(std::vector<OperandId> ids);
  std::future<Buffer> submit(Operation operation);

  /// Handles everything the worker sends, until the worker or `close` ends the session. Runs on its own thread.
  void receive_all();
  void close();

 private:
  struct Pending {
    std::promise<Buffer> promise;
    uint64_t max_bytes = 0;  ///< limit of the reply
  };

  void connect(const std::shared_ptr<grpc::Channel>& channel);
  wire::Welcome greet();
  /// The functions below require send_mutex_.
  void send(const wire::ClientMessage& message);
  void check_sent(wire::GrpcStream::Sent sent);
  uint64_t max_bytes_of(const Operation& operation) const;

  void handle(const wire::ReceivedFrame& frame);
  void handle(const wire::Reply& reply);
  void handle(const wire::Refusal& refusal);
  void complete(uint64_t number, Buffer result);
  std::promise<Buffer> take(uint64_t number);
  uint64_t pending_max_bytes(uint64_t number) const;

  /// Ends the session. The first reason is kept; `pending_error` is what waiting futures throw (default:
  /// WorkerLostError).
  void lose(const std::string& reason, std::exception_ptr pending_error = nullptr);
  void throw_if_lost() const;

  const std::string uri_;
  const GrpcOptions options_;
  std::shared_ptr<GrpcClientStream> stream_;
  wire::Welcome welcome_;

  std::mutex send_mutex_;  // keeps the messages of a tensor together and operations in the order of their numbers
  uint64_t next_number_ = 1;
  // Specs of the worker's operands, as they are once it has read everything sent.
  std::unordered_map<OperandId, TensorSpec> operands_;

  wire::TensorReceiver receiver_;  // used by the receiving thread alone, like receiving_
  uint64_t receiving_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::unordered_map<uint64_t, Pending> pending_;
  std::string lost_;  // why the session ended; empty while it lives
};

}  // namespace tempo::offload
