/// One side of a `shm://` session: a ring to write, a ring to read, and the socket that wakes and tells of death.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

#include "wire/shm_ring.h"
#include "wire/shm_segment.h"
#include "wire/shm_socket.h"

namespace tempo::wire {

enum class ShmSide { kMaster, kWorker };
enum class Sent { kYes, kFull, kPeerGone };
enum class Arrival { kMessage, kPeerGone, kTimeout };

/// Any thread may send or close; one thread at a time receives.
class ShmChannel {
 public:
  ShmChannel(const ShmSegment& segment, UniqueDescriptor socket, ShmSide side);

  /// Waits up to `patience` for room in the ring. Messages of one thread arrive in order.
  /// @throws ProtocolError for a message that can never fit, or a peer that claims what cannot be.
  Sent send(std::span<const std::byte> message, std::chrono::milliseconds patience);

  /// What the peer wrote before it went is still received. @param patience negative: no limit.
  /// @throws ProtocolError as RingReader does.
  Arrival receive(std::vector<std::byte>& message, std::chrono::milliseconds patience);

  /// From now on both sides see the other as gone. Wakes whoever waits.
  void close();

 private:
  bool try_send(std::span<const std::byte> message);
  [[nodiscard]] bool spin_for_message() const;

  UniqueDescriptor socket_;
  std::atomic<bool> closed_ = false;
  std::mutex send_mutex_;
  RingWriter writer_;
  RingReader reader_;
};

}  // namespace tempo::wire
