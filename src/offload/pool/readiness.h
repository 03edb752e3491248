/// Waiting for the futures of workers.
#pragma once

#include <chrono>
#include <future>

#include "offload/contract.h"

namespace tempo::offload {

/// Waits at most `patience` for a reply; returns whether it can be taken. A deferred reply, which is computed when it
/// is taken, always can.
template <typename Duration>
bool is_ready(const std::future<Buffer>& reply, Duration patience) {
  return reply.wait_for(patience) != std::future_status::timeout;
}

}  // namespace tempo::offload
