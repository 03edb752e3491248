/// A worker process on the same machine. The master blinds straight into memory that both processes map, and un-blinds
/// straight out of it; only small messages pass between them. Layout, life cycle and trust: docs/formats/shm.md.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "offload/contract.h"

namespace tempo::offload {

struct ShmOptions {
  std::chrono::milliseconds connect{10'000};  ///< how long to wait for the worker to appear, and again for its greeting
  std::chrono::milliseconds memory{10'000};   ///< how long `allocate` waits for the worker to free operands
  std::chrono::milliseconds stall{30'000};  ///< a worker that reads nothing for this long, with its ring full, is lost
};

/// Connects to `tempo-worker --listen shm://NAME`. The worker is thread-safe, and its buffers may outlive it.
/// `allocate` returns memory of the segment, 64-byte aligned. It throws RunError if the segment is full and stays so;
/// the worker decides its size when it starts. `put` copies an operand that lies elsewhere. `submit` waits while 1,024
/// operations are under way. Replies lie in the segment too (Buffer::is_shared) until their last copy is dropped:
/// keeping many makes the worker refuse operations for lack of room.
/// @throws InputError for a bad name; WorkerLostError if no worker answers; ProtocolError if what answers is not a
/// worker.
std::shared_ptr<Worker> make_shm_worker(const std::string& name, const ShmOptions& options = {});

}  // namespace tempo::offload
