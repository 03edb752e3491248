#include "wire/grpc_stream.h"

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "tempo/error.h"

namespace tempo::wire {

using contract::Buffer;
using std::chrono::milliseconds;

const char* const kSessionMethod = "/tempo.v1.Worker/Session";

namespace {

constexpr size_t kReadAhead = 2;                      // frames
constexpr size_t kMaxQueuedBytes = size_t{32} << 20;  // unsent
constexpr size_t kFrameOverhead = 512;                // what a small frame takes in the queue besides its bytes
constexpr milliseconds kCancelPatience{5'000};        // gRPC answers at once; this is only never to hang

size_t cost(const grpc::ByteBuffer& frame) { return frame.Length() + kFrameOverhead; }

/// @param patience negative: no limit.
template <typename Condition>
bool wait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, milliseconds patience,
          const Condition& condition) {
  if (patience.count() >= 0) return changed.wait_for(lock, patience, condition);
  changed.wait(lock, condition);
  return true;
}

// gRPC's threads let go of TLS connections when they please, also while the program ends: OpenSSL must not have cleaned
// up by then. This must come before anything else of OpenSSL.
const bool kOpensslStaysAtExit = OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr) == 1;

}  // namespace

void quiet_grpc() {
  static const bool once = [] {
    if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
    grpc_init();  // and never shut down: gRPC would do that on a thread of its own, while the program ends
    return true;
  }();
  static_cast<void>(once);
}

// Operations are started under the mutex: gRPC's callback threads, never the caller, report that they are done.

GrpcStream::Arrival GrpcStream::receive(grpc::ByteBuffer& frame, milliseconds patience) {
  std::unique_lock lock(mutex_);
  const bool is_over = wait(changed_, lock, patience, [this] { return is_stopped_ || is_lost_ || !incoming_.empty(); });
  if (!is_over) return Arrival::kTimeout;
  if (is_stopped_ || incoming_.empty()) return Arrival::kClosed;
  frame.Swap(&incoming_.front());
  incoming_.pop_front();
  read_more();
  return Arrival::kFrame;
}

void GrpcStream::stop_receiving() {
  const std::lock_guard lock(mutex_);
  is_stopped_ = true;
  changed_.notify_all();
}

GrpcStream::Sent GrpcStream::send(const grpc::ByteBuffer& frame, milliseconds patience) {
  std::unique_lock lock(mutex_);
  const bool has_room =
      wait(changed_, lock, patience, [this] { return is_lost_ || is_closing_ || queued_bytes_ < kMaxQueuedBytes; });
  if (!has_room) return Sent::kTimeout;
  if (is_lost_ || is_closing_) return Sent::kClosed;
  queued_bytes_ += cost(frame);
  outgoing_.push_back(frame);
  write_more();
  return Sent::kYes;
}

void GrpcStream::close(milliseconds patience) {
  std::unique_lock lock(mutex_);
  is_stopped_ = true;
  if (is_closing_) return;
  is_closing_ = true;
  changed_.notify_all();
  if (!changed_.wait_for(lock, patience, [this] { return is_drained(); })) {
    cancel();
    changed_.wait_for(lock, kCancelPatience, [this] { return is_drained(); });
  }
  is_ended_ = true;
  std::deque<grpc::ByteBuffer> unsent;
  unsent.swap(outgoing_);  // its memory is freed after the lock: that runs code of others
  const bool was_lost = is_lost_;
  lock.unlock();
  end(was_lost);
}

void GrpcStream::begin_reading() {
  const std::lock_guard lock(mutex_);
  read_more();
}

void GrpcStream::read_more() {
  if (is_reading_ || is_lost_ || is_ended_ || incoming_.size() >= kReadAhead) return;
  is_reading_ = true;
  start_read(&reading_);
}

void GrpcStream::write_more() {
  if (is_writing_ || is_lost_ || is_ended_ || outgoing_.empty()) return;
  is_writing_ = true;
  writing_.Swap(&outgoing_.front());
  outgoing_.pop_front();
  start_write(&writing_);
}

void GrpcStream::read_done(bool is_ok) {
  const std::lock_guard lock(mutex_);
  is_reading_ = false;
  if (is_ok) {
    incoming_.emplace_back();
    incoming_.back().Swap(&reading_);
    read_more();
  } else {
    is_lost_ = true;
  }
  changed_.notify_all();
}

void GrpcStream::write_done(bool is_ok) {
  grpc::ByteBuffer written;  // freed after the lock
  const std::lock_guard lock(mutex_);
  is_writing_ = false;
  written.Swap(&writing_);
  queued_bytes_ -= cost(written);
  if (!is_ok) is_lost_ = true;
  write_more();
  changed_.notify_all();
}

void GrpcStream::lost() {
  const std::lock_guard lock(mutex_);
  is_lost_ = true;
  changed_.notify_all();
}

namespace {

grpc::Slice copied(const std::vector<std::byte>& bytes) { return {bytes.data(), bytes.size()}; }

grpc::Slice referring_to(const Buffer& tensor, size_t offset, size_t bytes) {
  auto owner = std::make_unique<std::shared_ptr<std::byte>>(tensor.owner());
  const auto forget = [](void* kept) { delete static_cast<std::shared_ptr<std::byte>*>(kept); };
  return {tensor.data() + offset, bytes, forget, owner.release()};
}

template <typename Message>
grpc::ByteBuffer plain_frame(const Message& message) {
  const grpc::Slice head = copied(frame_head(encode(message)));
  return {&head, 1};
}

FrameReader::Pieces pieces_of(const std::vector<grpc::Slice>& slices) {
  FrameReader::Pieces pieces;
  for (const grpc::Slice& slice : slices)
    pieces.emplace_back(reinterpret_cast<const std::byte*>(slice.begin()), slice.size());
  return pieces;
}

std::vector<grpc::Slice> slices_of(const grpc::ByteBuffer& frame) {
  std::vector<grpc::Slice> slices;
  if (!frame.Dump(&slices).ok()) throw ProtocolError("wire: got a frame that cannot be read");
  return slices;
}

}  // namespace

grpc::ByteBuffer to_frame(const ClientMessage& message) { return plain_frame(message); }
grpc::ByteBuffer to_frame(const ServerMessage& message) { return plain_frame(message); }

template <typename Message>
GrpcStream::Sent send_tensor(GrpcStream& stream, const Message& announcement, const Buffer& tensor,
                             milliseconds patience) {
  GrpcStream::Sent sent = stream.send(to_frame(announcement), patience);
  for (size_t at = 0; at < tensor.bytes() && sent == GrpcStream::Sent::kYes; at += kChunkBytes) {
    const size_t bytes = std::min(kChunkBytes, tensor.bytes() - at);
    const grpc::Slice parts[] = {copied(frame_head(encode(Message(Chunk{bytes})))), referring_to(tensor, at, bytes)};
    sent = stream.send(grpc::ByteBuffer(parts, 2), patience);
  }
  return sent;
}
template GrpcStream::Sent send_tensor(GrpcStream&, const ClientMessage&, const Buffer&, milliseconds);
template GrpcStream::Sent send_tensor(GrpcStream&, const ServerMessage&, const Buffer&, milliseconds);

ReceivedFrame::ReceivedFrame(const grpc::ByteBuffer& frame) : memory(slices_of(frame)), reader(pieces_of(memory)) {}

}  // namespace tempo::wire
