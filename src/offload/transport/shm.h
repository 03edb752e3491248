/// A worker process on the same machine. The master blinds straight into memory that both map, and un-blinds straight
/// out of it; only small messages pass between them. Layout, life cycle and trust: docs/formats/shm.md.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "tempo/worker.h"

namespace tempo::offload {

struct ShmOptions {
  std::chrono::milliseconds connect{10'000};  ///< for the worker to appear, and again for its greeting
  std::chrono::milliseconds memory{10'000};   ///< how long `allocate` waits for the worker to free operands
  std::chrono::milliseconds stall{30'000};    ///< a worker that read nothing for so long, with its ring full, is lost
};

/// Connects to `tempo-worker --listen shm://NAME`. Thread-safe. Its buffers may outlive it.
/// `allocate` gives memory of the segment, 64-byte aligned, and throws RunError when that is full and stays so: how
/// much there is, the worker decides when it starts. `put` copies an operand that lies elsewhere. `submit` waits while
/// 1,024 operations are under way. Replies lie in the segment too (Buffer::is_shared) until their last copy is dropped:
/// who keeps many makes the worker refuse operations for lack of room.
/// @throws InputError for a bad name, WorkerLostError if no worker answers, ProtocolError if what answers is none.
std::shared_ptr<Worker> make_shm_worker(const std::string& name, const ShmOptions& options = {});

}  // namespace tempo::offload
