/// Serves masters on the same machine over shared memory: docs/formats/shm.md. UNTRUSTED side.
#pragma once

#include <memory>
#include <string>

#include "worker/server/server.h"

namespace tempo::worker {

/// Listens at `shm://name` until destroyed, which ends all sessions. Each master has a segment of its own, of
/// `options.segment_bytes`, a thread of its own, and no way to the operands of another. Masters of other users are
/// refused, and those beyond `options.max_sessions`.
/// @throws InputError for a bad name, one that is served already, a bad size, or no such device.
std::unique_ptr<Server> serve_shm(const std::string& name, const ServerOptions& options);

}  // namespace tempo::worker
