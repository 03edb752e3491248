#include "wire/shm_channel.h"

#include <sys/socket.h>

#include <thread>

namespace tempo::wire {
namespace {

using std::chrono::steady_clock;

// A few microseconds: enough for an answer that is on its way, too little to take a core from somebody.
constexpr int kSpins = 200;
// A full ring means thousands of messages that nobody reads: rare enough to be polled.
constexpr std::chrono::microseconds kFullRingInterval{200};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

ShmRing ring_written_by(ShmSide side) { return side == ShmSide::kMaster ? ShmRing::kToWorker : ShmRing::kToMaster; }
ShmRing ring_read_by(ShmSide side) { return side == ShmSide::kMaster ? ShmRing::kToMaster : ShmRing::kToWorker; }

}  // namespace

ShmChannel::ShmChannel(const ShmSegment& segment, UniqueDescriptor socket, ShmSide side)
    : socket_(std::move(socket)),
      writer_(ring_memory(segment.bytes(), ring_written_by(side))),
      reader_(ring_memory(segment.bytes(), ring_read_by(side))) {}

Sent ShmChannel::send(std::span<const std::byte> message, std::chrono::milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  while (!closed_) {
    if (try_send(message)) return Sent::kYes;
    if (is_peer_gone(socket_)) break;
    if (steady_clock::now() >= deadline) return Sent::kFull;
    std::this_thread::sleep_for(kFullRingInterval);
  }
  return Sent::kPeerGone;
}

// The lock is not held while a sender waits: another may have less patience, or a shorter message.
bool ShmChannel::try_send(std::span<const std::byte> message) {
  const std::lock_guard lock(send_mutex_);
  if (!writer_.try_write(message)) return false;
  if (writer_.take_reader_sleep()) ring_doorbell(socket_);
  return true;
}

Arrival ShmChannel::receive(std::vector<std::byte>& message, std::chrono::milliseconds patience) {
  while (!closed_) {
    if (reader_.try_read(message)) return Arrival::kMessage;
    if (spin_for_message()) continue;
    reader_.announce_sleep();
    if (!reader_.is_empty()) continue;
    const Wakeup wakeup = wait_for_doorbell(socket_, patience);
    if (wakeup == Wakeup::kTimeout) return Arrival::kTimeout;
    if (wakeup == Wakeup::kPeerGone) return reader_.try_read(message) ? Arrival::kMessage : Arrival::kPeerGone;
  }
  return Arrival::kPeerGone;
}

void ShmChannel::close() {
  closed_ = true;
  shutdown(socket_.get(), SHUT_RDWR);
}

bool ShmChannel::spin_for_message() const {
  for (int i = 0; i < kSpins; ++i) {
    if (!reader_.is_empty()) return true;
    pause();
  }
  return false;
}

}  // namespace tempo::wire
