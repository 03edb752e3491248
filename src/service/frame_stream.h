/// gRPC over one end of a socket pair: the method Jobs.Session, a stream of one connection.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "service/listener.h"
#include "tempo/v1/service.pb.h"
#include "wire/descriptor.h"

namespace tempo::service {

/// The limit of a message, either way.
constexpr size_t kMaxMessageBytes = 2 << 20;
/// The limit of an archive or a checkpoint in one message.
constexpr size_t kPieceBytes = 1 << 20;

/// The service's end. A gRPC server of its own, so that what comes over one connection can never be taken for
/// another's: gRPC's names of connections are numbers of descriptors, which are used again.
/// @param answer called for one request after the other, on a thread of the connection.
using Answer = std::function<v1::JobReply(const v1::JobRequest&)>;
std::unique_ptr<Served> serve_session(wire::UniqueDescriptor socket, Answer answer);

/// The client's end. Not thread-safe.
class SessionCaller {
 public:
  explicit SessionCaller(wire::UniqueDescriptor socket);
  ~SessionCaller();
  SessionCaller(const SessionCaller&) = delete;
  SessionCaller& operator=(const SessionCaller&) = delete;

  /// Sends without waiting for the reply; as many `receive` must follow. @throws RunError once the connection is gone.
  void send(const v1::JobRequest& request);
  /// @throws RunError once the connection is gone, ProtocolError for what is no reply.
  v1::JobReply receive();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tempo::service
