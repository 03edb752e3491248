/// A worker that serves masters over some transport. UNTRUSTED side.
#pragma once

#include <cstddef>
#include <functional>
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

  /// Makes what carries out the operations of a session, instead of an Executor on `device`; for measurements of a
  /// master. `tempo-worker` never sets it.
  std::function<std::unique_ptr<Arithmetic>()> arithmetic;

  [[nodiscard]] std::string collective_address() const { return collective == nullptr ? "" : collective->address(); }
};

/// The session of a master, as the options have it. @throws InputError if there is no such device.
std::unique_ptr<Session> make_session(const ServerOptions& options, Session::Listener& listener,
                                      std::shared_ptr<SessionMonitor> monitor);

/// Serves until destroyed, which ends all sessions.
class Server {
 public:
  virtual ~Server() = default;
  /// Where it listens, as a master's URI.
  [[nodiscard]] virtual std::string address() const = 0;
};

}  // namespace tempo::worker
