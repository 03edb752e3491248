/// The Unix socket by which master and worker of a `shm://NAME` session find each other: it hands over the segment, is
/// the doorbell of both rings, and tells each side at once when the other is gone.
#pragma once

#include <chrono>
#include <string>

#include "wire/descriptor.h"

namespace tempo::wire {

/// NAME is a socket in Linux' abstract namespace: no file, so nothing is left over when its owner dies.
/// All of these @throw InputError for a name that is not 1 to 64 letters, digits, dots, dashes or underscores.

/// @throws InputError if somebody serves that name already, RunError if the system refuses.
UniqueDescriptor listen_shm(const std::string& name);
/// Tries until `patience` is over. @throws WorkerLostError if nobody listens by then.
UniqueDescriptor connect_shm(const std::string& name, std::chrono::milliseconds patience);

/// @throws ProtocolError unless the peer is of the same user, or root.
void check_shm_peer(const UniqueDescriptor& socket);

/// The worker's answer to a connection: the segment, or why there is none. False if the peer is gone.
bool send_shm_file(const UniqueDescriptor& socket, const UniqueDescriptor& file);
bool send_shm_refusal(const UniqueDescriptor& socket, const std::string& reason);
/// @throws ProtocolError for anything else than one file, WorkerLostError for a refusal, or none within `patience`.
UniqueDescriptor receive_shm_file(const UniqueDescriptor& socket, std::chrono::milliseconds patience);

/// Wakes the peer. Never blocks: where the socket is full, doorbells are waiting there already.
void ring_doorbell(const UniqueDescriptor& socket);
enum class Wakeup { kDoorbell, kPeerGone, kTimeout };
/// @param patience negative: no limit.
Wakeup wait_for_doorbell(const UniqueDescriptor& socket, std::chrono::milliseconds patience);
/// Does not wait.
bool is_peer_gone(const UniqueDescriptor& socket);

}  // namespace tempo::wire
