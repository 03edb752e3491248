/// The worker's end of a gRPC stream.
#pragma once

#include <grpcpp/generic/async_generic_service.h>

#include <memory>
#include <string>

#include "wire/grpc_stream.h"

namespace tempo::worker {

/// Keeps itself alive until gRPC is done with it.
class GrpcServerStream final : public wire::GrpcStream, public grpc::ServerGenericBidiReactor {
 public:
  explicit GrpcServerStream(grpc::GenericCallbackServerContext* context) : context_(context) {}

  static std::shared_ptr<GrpcServerStream> of(grpc::GenericCallbackServerContext* context) {
    auto stream = std::make_shared<GrpcServerStream>(context);
    stream->self_ = stream;
    stream->begin_reading();
    return stream;
  }
  void refuse(grpc::StatusCode code, const std::string& reason) {
    status_ = grpc::Status(code, reason);
    close(std::chrono::milliseconds(0));
  }

  void OnReadDone(bool is_ok) override { read_done(is_ok); }
  void OnWriteDone(bool is_ok) override { write_done(is_ok); }
  void OnCancel() override { lost(); }
  void OnDone() override { const auto last = std::move(self_); }

 private:
  void start_read(grpc::ByteBuffer* into) override { StartRead(into); }
  void start_write(const grpc::ByteBuffer* frame) override { StartWrite(frame); }
  void cancel() override { context_->TryCancel(); }
  void end(bool) override { Finish(status_); }

  grpc::GenericCallbackServerContext* context_;
  grpc::Status status_;
  std::shared_ptr<GrpcServerStream> self_;
};

}  // namespace tempo::worker
