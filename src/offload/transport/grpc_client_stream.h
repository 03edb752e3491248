/// The master's end of a gRPC stream.
#pragma once

#include <grpcpp/generic/generic_stub.h>

#include <memory>
#include <string>

#include "wire/grpc_stream.h"

namespace tempo::offload {

/// Dropping the last reference closes the stream and waits until gRPC is done with it. The last reference to the stream
/// and to its channel must be dropped on one of Tempo's threads: gRPC joins its own threads when the last channel goes,
/// and on one of those it would join itself.
class GrpcClientStream final : public wire::GrpcStream,
                               private grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit GrpcClientStream(std::shared_ptr<grpc::Channel> channel);
  /// Starts a stream. Whether a peer answers shows only later.
  static std::shared_ptr<GrpcClientStream> open(const std::shared_ptr<grpc::Channel>& channel,
                                                const char* method = wire::kSessionMethod);

  /// After `close`: why the stream ended, according to gRPC, as one printable line.
  std::string reason();

 private:
  void OnReadDone(bool is_ok) override { read_done(is_ok); }
  void OnWriteDone(bool is_ok) override { write_done(is_ok); }
  void OnDone(const grpc::Status& status) override;

  void start_read(grpc::ByteBuffer* into) override { StartRead(into); }
  void start_write(const grpc::ByteBuffer* frame) override { StartWrite(frame); }
  void cancel() override { context_.TryCancel(); }
  void end(bool is_lost) override;
  bool wait_until_done();

  const std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  std::mutex status_mutex_;
  std::condition_variable is_done_changed_;
  bool is_done_ = false;
  grpc::Status status_;
};

}  // namespace tempo::offload
