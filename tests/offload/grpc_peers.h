/// What tests of the gRPC transport need to play a peer by hand.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "offload/transport/grpc.h"
#include "offload/transport/grpc_client_stream.h"
#include "wire/messages.h"
#include "worker/server/grpc_server_stream.h"

namespace tempo::testing {

inline constexpr std::chrono::milliseconds kLong{60'000};

inline grpc::ByteBuffer raw_frame(const std::vector<uint8_t>& bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return {&slice, 1};
}

/// A message, and behind it so many bytes, which an honest peer has only behind a Chunk.
template <typename Message>
grpc::ByteBuffer frame_with(const Message& message, size_t payload) {
  const std::vector<std::byte> head = wire::frame_head(wire::encode(message));
  const std::vector<std::byte> bytes(payload, std::byte{1});
  const grpc::Slice parts[] = {{head.data(), head.size()}, {bytes.data(), bytes.size()}};
  return {parts, 2};
}
/// A frame with a message of a master.
inline grpc::ByteBuffer frame_of(const wire::ClientMessage& message, size_t payload = 0) {
  return frame_with(message, payload);
}
/// A frame with an answer of a worker.
inline grpc::ByteBuffer answer_of(const wire::ServerMessage& message, size_t payload = 0) {
  return frame_with(message, payload);
}

/// A master that says what a test wants.
class RawMaster {
 public:
  explicit RawMaster(const std::string& host_port, const char* method = wire::kSessionMethod) {
    wire::quiet_grpc();
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stream_ = offload::GrpcClientStream::open(
        grpc::CreateCustomChannel(host_port, grpc::InsecureChannelCredentials(), arguments), method);
  }
  ~RawMaster() { stream_->close(std::chrono::milliseconds(0)); }
  RawMaster(const RawMaster&) = delete;
  RawMaster& operator=(const RawMaster&) = delete;

  bool send(const grpc::ByteBuffer& frame) { return stream_->send(frame, kLong) == wire::GrpcStream::Sent::kYes; }
  /// Reads a frame and forgets it. False if the stream ended.
  bool skip(std::chrono::milliseconds patience) {
    grpc::ByteBuffer bytes;
    return stream_->receive(bytes, patience) != wire::GrpcStream::Arrival::kClosed;
  }
  /// Chunks are let pass.
  wire::ServerMessage next() {
    for (grpc::ByteBuffer bytes; stream_->receive(bytes, kLong) == wire::GrpcStream::Arrival::kFrame;) {
      const wire::ReceivedFrame frame(bytes);
      auto message = wire::decode_server_message(frame.reader.message());
      if (!std::holds_alternative<wire::Chunk>(message)) return message;
    }
    return wire::Goodbye{"(closed)"};
  }
  bool try_greet() {
    send(frame_of(wire::Hello{}));
    return std::holds_alternative<wire::Welcome>(next());
  }
  void greet() { ASSERT_TRUE(try_greet()); }
  /// The reason of the goodbye that must come, whatever comes before it.
  std::string goodbye() {
    for (;;)
      if (const auto message = next(); std::holds_alternative<wire::Goodbye>(message))
        return std::get<wire::Goodbye>(message).reason;
  }
  std::string refusal_of(contract::Operation operation) {
    send(frame_of(wire::Submit{.number = ++number_, .operation = std::move(operation)}));
    const auto message = next();
    if (const auto* refusal = std::get_if<wire::Refusal>(&message)) return refusal->reason;
    return "(no refusal)";
  }

 private:
  std::shared_ptr<offload::GrpcClientStream> stream_;
  uint64_t number_ = 0;
};

/// A worker that does what a test wants, with every master.
class RawWorker final : public grpc::CallbackGenericService {
 public:
  using Behaviour = std::function<void(wire::GrpcStream&)>;

  explicit RawWorker(Behaviour behaviour) : behaviour_(std::move(behaviour)) {
    wire::quiet_grpc();
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
  }
  ~RawWorker() override {
    server_->Shutdown(std::chrono::system_clock::now());
    for (auto& thread : threads_) thread.join();
  }
  RawWorker(const RawWorker&) = delete;
  RawWorker& operator=(const RawWorker&) = delete;

  [[nodiscard]] std::string host_port() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    const auto stream = worker::GrpcServerStream::of(context);
    const std::lock_guard lock(mutex_);
    threads_.emplace_back([this, stream] {
      behaviour_(*stream);
      stream->close(std::chrono::milliseconds(500));
    });
    return stream.get();
  }

  Behaviour behaviour_;
  int port_ = 0;
  std::mutex mutex_;
  std::vector<std::thread> threads_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace tempo::testing
