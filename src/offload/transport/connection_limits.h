/// What the connections of all transports to a worker have in common.
#pragma once

#include <cstddef>

namespace tempo::offload {

/// Operations that a connection keeps waiting for an answer; a further one waits until an answer has come.
inline constexpr size_t kMaxInFlight = 1024;
/// The version that the master tells a worker in its greeting.
inline constexpr const char* kMasterVersion = "0.1.0";

}  // namespace tempo::offload
