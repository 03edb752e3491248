/// One worker of a pool, as the master knows it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tempo/worker.h"

namespace tempo::offload {

enum class MemberState : uint8_t {
  kAbsent,       ///< not connected: it may come (back)
  kActive,       ///< has its share of the work
  kQuarantined,  ///< gave a wrong result or broke the protocol: never asked again in this run
  kLeft          ///< taken out of the list of workers
};

struct Member {
  std::string uri;
  MemberState state = MemberState::kAbsent;
  std::shared_ptr<Worker> worker;  ///< of active members only
  std::string device;              ///< as it says
  uint64_t life = 0;               ///< counts connections: what an earlier one stored is gone
  double share = 1;                ///< of the rows, relative to the others'
  double done = 0, seconds = 0;    ///< of the work since shares were last set, and the time it took
  int late = 0;                    ///< times in a row that its shard was given to another, too

  [[nodiscard]] bool is_active() const { return state == MemberState::kActive; }
};

/// What happens to workers, for logs and metrics. Called on the thread that drives the pool.
class PoolObserver {
 public:
  virtual ~PoolObserver() = default;
  virtual void joined(const std::string& uri) = 0;
  /// It ended, fell silent, or left: @param reason one line, no value in it.
  virtual void lost(const std::string& uri, const std::string& reason) = 0;
  virtual void quarantined(const std::string& uri, const std::string& reason) = 0;
  /// A shard went to `to`, because another worker was late, lost or wrong.
  virtual void reissued(const std::string& what, const std::string& to) = 0;
  /// All of an operation's replies are there. @param operation its kind
  virtual void completed(const char* operation, double seconds) = 0;
};

}  // namespace tempo::offload
