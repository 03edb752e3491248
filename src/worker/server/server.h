/// A worker that serves masters over some transport. UNTRUSTED side.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "wire/shm_layout.h"
#include "worker/collective.h"
#include "worker/monitor.h"
#include "worker/session.h"

namespace tempo::worker {

struct ServerOptions {
  std::string device = "cpu";                         ///< as of Executor
  int threads = 1;                                    ///< of one product on the CPU
  SessionLimits limits;                               ///< of each session
  size_t max_sessions = 4;                            ///< masters at the same time
  std::string tls_folder;                             ///< grpc:// only
  size_t segment_bytes = wire::kDefaultSegmentBytes;  ///< shm:// only: of each session; memory exists once it is used
  std::shared_ptr<Monitor> monitor = std::make_shared<Monitor>();  ///< hears of all sessions
  std::shared_ptr<Collective> collective;                          ///< for sums with other workers; null: takes no part

  [[nodiscard]] std::string collective_address() const { return collective == nullptr ? "" : collective->address(); }
};

/// Serves until destroyed, which ends all sessions.
class Server {
 public:
  virtual ~Server() = default;
  /// Where it listens, as a master's URI.
  [[nodiscard]] virtual std::string address() const = 0;
};

}  // namespace tempo::worker
