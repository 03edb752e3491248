/// Looking at futures of workers.
#pragma once

#include <chrono>
#include <future>

#include "tempo/worker.h"

namespace tempo::offload {

/// Whether a reply can be taken, waiting at most so long for it. One that is computed where it is taken (deferred) can.
template <typename Duration>
bool is_ready(const std::future<Buffer>& reply, Duration patience) {
  return reply.wait_for(patience) != std::future_status::timeout;
}

}  // namespace tempo::offload
