#include "offload/transport/grpc_client_stream.h"

#include <algorithm>

namespace tempo::offload {
namespace {

constexpr std::chrono::seconds kDonePatience{5};

}  // namespace

GrpcClientStream::GrpcClientStream(std::shared_ptr<grpc::Channel> channel)
    : channel_(std::move(channel)), stub_(channel_) {}

std::shared_ptr<GrpcClientStream> GrpcClientStream::open(const std::shared_ptr<grpc::Channel>& channel,
                                                         const char* method) {
  std::shared_ptr<GrpcClientStream> stream(new GrpcClientStream(channel), [](GrpcClientStream* last) {
    last->close(std::chrono::milliseconds(0));
    if (last->wait_until_done()) delete last;  // else gRPC may still use it: it is leaked
  });
  stream->stub_.PrepareBidiStreamingCall(&stream->context_, method, {}, stream.get());
  stream->AddHold();  // until `end`, because any thread may start reads and writes
  stream->begin_reading();
  stream->StartCall();
  return stream;
}

void GrpcClientStream::end(bool is_lost) {
  if (!is_lost) context_.TryCancel();  // so that the worker notices; if the stream was lost, its own reason stays
  RemoveHold();
}

void GrpcClientStream::OnDone(const grpc::Status& status) {
  const std::lock_guard lock(status_mutex_);
  status_ = status;
  is_done_ = true;
  is_done_changed_.notify_all();
}

bool GrpcClientStream::wait_until_done() {
  std::unique_lock lock(status_mutex_);
  return is_done_changed_.wait_for(lock, kDonePatience, [this] { return is_done_; });
}

std::string GrpcClientStream::reason() {
  constexpr size_t kMaxReasonBytes = 300;
  std::unique_lock lock(status_mutex_);
  is_done_changed_.wait_for(lock, kDonePatience, [this] { return is_done_; });
  std::string text = status_.ok() ? "the stream ended" : status_.error_message().substr(0, kMaxReasonBytes);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return text;
}

}  // namespace tempo::offload
