#include "service/frame_stream.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tempo/error.h"
#include "wire/grpc_stream.h"

namespace tempo::service {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kMethod = "/tempo.v1.Jobs/Session";
constexpr size_t kTransportBytes = size_t{16} << 20;  // of gRPC's own buffers, for one connection
constexpr milliseconds kReplyPatience{300'000};       // evidence, or a state that must be opened
constexpr milliseconds kClosePatience{2'000};
constexpr seconds kDonePatience{5};

/// For gRPC, which closes it.
int duplicate(const wire::UniqueDescriptor& socket) {
  const int copy = ::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw RunError("service: no descriptor left");
  return copy;
}

template <typename Message>
grpc::ByteBuffer to_frame(const Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return {&slice, 1};
}

/// @returns false for what is none of that kind, or too long.
template <typename Message>
bool from_frame(const grpc::ByteBuffer& frame, Message& message) {
  grpc::Slice slice;
  if (frame.Length() > kMaxMessageBytes || !frame.DumpToSingleSlice(&slice).ok()) return false;
  return message.ParseFromArray(slice.begin(), static_cast<int>(slice.size()));
}

/// Keeps itself alive until gRPC is done with it.
class ServiceStream final : public wire::GrpcStream, public grpc::ServerGenericBidiReactor {
 public:
  explicit ServiceStream(grpc::GenericCallbackServerContext* context) : context_(context) {}

  static std::shared_ptr<ServiceStream> of(grpc::GenericCallbackServerContext* context) {
    auto stream = std::make_shared<ServiceStream>(context);
    stream->self_ = stream;
    stream->begin_reading();
    return stream;
  }
  void refuse(grpc::StatusCode code, const std::string& reason) {
    status_ = grpc::Status(code, reason);
    close(milliseconds(0));
  }
  void cut_off() { context_->TryCancel(); }

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
  std::shared_ptr<ServiceStream> self_;
};

/// One stream, one thread that answers.
class ServedSession final : public Served, private grpc::CallbackGenericService {
 public:
  ServedSession(wire::UniqueDescriptor socket, Answer answer) : answer_(std::move(answer)) {
    wire::quiet_grpc();
    grpc::ServerBuilder builder;
    grpc::ResourceQuota quota("tempo-service");
    quota.Resize(kTransportBytes);
    builder.SetResourceQuota(quota);
    builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
    builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);  // nothing is unpacked
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 2);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 8192);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) throw RunError("service: gRPC does not start");
    grpc::AddInsecureChannelFromFd(server_.get(), duplicate(socket));  // which gRPC closes
  }

  ~ServedSession() override {
    std::shared_ptr<ServiceStream> stream;
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
      stream = stream_;
    }
    if (stream) stream->stop_receiving();
    if (thread_.joinable()) thread_.join();
    server_->Shutdown(std::chrono::system_clock::now() + kClosePatience);
  }

 private:
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    const std::shared_ptr<ServiceStream> stream = ServiceStream::of(context);
    if (context->method() != kMethod)
      stream->refuse(grpc::StatusCode::UNIMPLEMENTED, "no such method");
    else
      begin(stream);
    return stream.get();
  }

  void begin(const std::shared_ptr<ServiceStream>& stream) try {
    const std::lock_guard lock(mutex_);
    if (is_stopping_ || stream_)
      return stream->refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "one session a connection");
    stream_ = stream;
    thread_ = std::thread([this] { answer_all(); });
  } catch (const std::exception&) {
    stream->refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "no thread");
  }

  void answer_all() {
    grpc::ByteBuffer frame;
    while (stream_->receive(frame, milliseconds(-1)) == wire::GrpcStream::Arrival::kFrame) {
      v1::JobRequest request;
      if (!from_frame(frame, request)) break;
      if (stream_->send(to_frame(answer_(request)), kReplyPatience) != wire::GrpcStream::Sent::kYes) break;
    }
    stream_->close(kClosePatience);
  }

  const Answer answer_;
  std::mutex mutex_;
  bool is_stopping_ = false;
  std::shared_ptr<ServiceStream> stream_;
  std::thread thread_;
  std::unique_ptr<grpc::Server> server_;  // last: it calls the rest
};

class CallerStream final : public wire::GrpcStream,
                           private grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit CallerStream(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {
    stub_.PrepareBidiStreamingCall(&context_, kMethod, {}, this);
    AddHold();  // until `end`: reads and writes are started by any thread
    begin_reading();
    StartCall();
  }
  /// Waits until gRPC is done with it. @returns false if it is not, and never will be.
  bool end_and_wait() {
    close(kClosePatience);
    std::unique_lock lock(done_mutex_);
    return done_changed_.wait_for(lock, kDonePatience, [this] { return is_done_; });
  }

 private:
  void OnReadDone(bool is_ok) override { read_done(is_ok); }
  void OnWriteDone(bool is_ok) override { write_done(is_ok); }
  void OnDone(const grpc::Status&) override {
    const std::lock_guard lock(done_mutex_);
    is_done_ = true;
    done_changed_.notify_all();
  }
  void start_read(grpc::ByteBuffer* into) override { StartRead(into); }
  void start_write(const grpc::ByteBuffer* frame) override { StartWrite(frame); }
  void cancel() override { context_.TryCancel(); }
  void end(bool is_lost) override {
    if (!is_lost) context_.TryCancel();
    RemoveHold();
  }

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  std::mutex done_mutex_;
  std::condition_variable done_changed_;
  bool is_done_ = false;
};

std::shared_ptr<grpc::Channel> channel_over(const wire::UniqueDescriptor& socket) {
  wire::quiet_grpc();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
  arguments.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  return grpc::CreateCustomInsecureChannelFromFd("tempo-service", duplicate(socket), arguments);
}

}  // namespace

std::unique_ptr<Served> serve_session(wire::UniqueDescriptor socket, Answer answer) {
  return std::make_unique<ServedSession>(std::move(socket), std::move(answer));
}

struct SessionCaller::State {
  explicit State(const wire::UniqueDescriptor& socket)
      : channel(channel_over(socket)), stream(std::make_unique<CallerStream>(channel)) {}
  ~State() {
    if (!stream->end_and_wait()) static_cast<void>(stream.release());  // gRPC's for ever
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<CallerStream> stream;
};

SessionCaller::SessionCaller(wire::UniqueDescriptor socket) : state_(std::make_unique<State>(socket)) {}
SessionCaller::~SessionCaller() = default;

void SessionCaller::send(const v1::JobRequest& request) {
  if (state_->stream->send(to_frame(request), kReplyPatience) != wire::GrpcStream::Sent::kYes)
    throw RunError("service: the connection is gone");
}

v1::JobReply SessionCaller::receive() {
  grpc::ByteBuffer frame;
  if (state_->stream->receive(frame, kReplyPatience) != wire::GrpcStream::Arrival::kFrame)
    throw RunError("service: the connection is gone");
  v1::JobReply reply;
  if (!from_frame(frame, reply)) throw ProtocolError("service: got what is no reply");
  return reply;
}

}  // namespace tempo::service
