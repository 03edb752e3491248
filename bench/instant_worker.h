/// A worker for measuring what a master alone can do: it answers at once, without computing. Every result has the right
/// shape and type, and is zero. Programs that train know nothing of it: it lives in `tempo-bench` alone.
#pragma once

#include <memory>

#include "worker/executor.h"

namespace tempo::bench {

/// What an instant worker serves a session with. It stores operands as a real one does, so that the master's memory is
/// used as it would be. It expects the memory that it is given for results to be zero, as a new segment of shm:// is.
std::unique_ptr<worker::Arithmetic> make_instant_arithmetic();

}  // namespace tempo::bench
