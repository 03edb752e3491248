/// One bidirectional gRPC stream of frames, used by blocking threads: a queue either way, both bounded.
/// The same on either side; the sides differ in how the stream begins and ends.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "tempo/worker.h"
#include "wire/frame.h"

namespace tempo::wire {

/// "/tempo.v1.Worker/Session"
extern const char* const kSessionMethod;

/// gRPC's own log would write what a peer sends, as many lines as it likes. It is silent unless GRPC_VERBOSITY is set.
void quiet_grpc();

/// Thread-safe.
class GrpcStream {
 public:
  enum class Arrival { kFrame, kClosed, kTimeout };
  enum class Sent { kYes, kClosed, kTimeout };

  virtual ~GrpcStream() = default;
  GrpcStream(const GrpcStream&) = delete;
  GrpcStream& operator=(const GrpcStream&) = delete;

  /// Waits for a frame; what came before the stream closed is still given out. @param patience negative: no limit.
  Arrival receive(grpc::ByteBuffer& frame, std::chrono::milliseconds patience);
  /// From now on `receive` says kClosed. The peer notices nothing.
  void stop_receiving();
  /// Queues a frame; waits while kMaxQueuedBytes are unsent.
  Sent send(const grpc::ByteBuffer& frame, std::chrono::milliseconds patience);
  /// Ends the stream, for good: first gives what is queued so much time to leave. Once is enough.
  void close(std::chrono::milliseconds patience);

 protected:
  GrpcStream() = default;

  /// For the reactor of either side.
  void begin_reading();
  void read_done(bool is_ok);
  void write_done(bool is_ok);
  void lost();

  virtual void start_read(grpc::ByteBuffer* into) = 0;
  virtual void start_write(const grpc::ByteBuffer* frame) = 0;
  /// Makes what is under way fail. May come more than once.
  virtual void cancel() = 0;
  /// Comes once; nothing is started afterwards. @param is_lost the peer, or the connection, ended before.
  virtual void end(bool is_lost) = 0;

 private:
  [[nodiscard]] bool is_drained() const { return is_lost_ || (!is_writing_ && outgoing_.empty()); }
  void read_more();
  void write_more();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<grpc::ByteBuffer> incoming_, outgoing_;
  grpc::ByteBuffer reading_, writing_;
  size_t queued_bytes_ = 0;  // of outgoing_ and writing_
  bool is_reading_ = false, is_writing_ = false;
  bool is_stopped_ = false;  // by this side: nothing is received any more
  bool is_lost_ = false;     // the peer, or the connection, ended
  bool is_closing_ = false, is_ended_ = false;
};

/// A message without tensor bytes.
grpc::ByteBuffer to_frame(const ClientMessage& message);
grpc::ByteBuffer to_frame(const ServerMessage& message);

/// A tensor in chunks. The frames refer to its memory, and keep it until they are sent: no byte of it is copied here.
template <typename Message>
GrpcStream::Sent send_tensor(GrpcStream& stream, const Message& announcement, const contract::Buffer& tensor,
                             std::chrono::milliseconds patience);

/// The pieces of a frame, and what they lie in.
struct ReceivedFrame {
  explicit ReceivedFrame(const grpc::ByteBuffer& frame);
  std::vector<grpc::Slice> memory;
  FrameReader reader;
};

}  // namespace tempo::wire
