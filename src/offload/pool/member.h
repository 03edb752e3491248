/// One worker of a pool, as the master knows it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "offload/contract.h"

namespace tempo::offload {

enum class MemberState : uint8_t {
  kAbsent,       ///< not connected; it is looked for, and may join (again)
  kActive,       ///< connected; gets a share of the work
  kQuarantined,  ///< gave a wrong result or broke the protocol: never asked again in this run
  kLeft          ///< removed from the list of workers
};

struct Member {
  std::string uri;
  MemberState state = MemberState::kAbsent;
  std::shared_ptr<Worker> worker;  ///< null unless the member is active
  std::string device;              ///< device as the worker describes it
  uint64_t life = 0;  ///< number of connections so far; a new one finds nothing of what an earlier one stored
  double share = 1;   ///< share of the rows, relative to the other members' shares
  double done = 0, seconds = 0;  ///< work done since shares were last set, and seconds that it took
  int late = 0;                  ///< number of times running that its shard was given to another member, too

  [[nodiscard]] bool is_active() const { return state == MemberState::kActive; }
};

/// Is told what happens to workers, for logs and metrics. Called on the thread that drives the pool.
class PoolObserver {
 public:
  virtual ~PoolObserver() = default;
  virtual void joined(const std::string& uri) = 0;
  /// The worker ended, fell silent, or left. @param reason one line that holds no values.
  virtual void lost(const std::string& uri, const std::string& reason) = 0;
  virtual void quarantined(const std::string& uri, const std::string& reason) = 0;
  /// A shard was given to the worker `to`, because another worker was late, lost or wrong.
  virtual void reissued(const std::string& what, const std::string& to) = 0;
  /// All replies to an operation have arrived. @param operation its kind. @param seconds how long the master waited.
  virtual void completed(const char* operation, double seconds) = 0;
};

}  // namespace tempo::offload
