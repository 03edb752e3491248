/// One master's operands and operations on this worker, carried out in order on a thread of the session's own.
/// UNTRUSTED side; and to it the master is untrusted too: sizes and counts are bounded before anything is kept.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tempo/worker.h"
#include "worker/monitor.h"

namespace tempo::worker {

class Arithmetic;
class Collective;

struct SessionLimits {
  uint64_t memory_bytes = 0;         ///< of all stored operands, and of one result; 0: no limit
  size_t operands = 1 << 16;         ///< stored at the same time, however small
  size_t waiting_operations = 4096;  ///< submitted and not yet carried out
};

/// Thread-safe. A put that does not fit the memory limit does not end the session: operations that name it are refused.
class Session {
 public:
  /// What became of an operation; in the order of submission, one call at a time.
  struct Listener {
    virtual ~Listener() = default;
    /// Memory where a result should lie; nothing: the listener takes it from wherever it is. Called while an earlier
    /// result may be handed over. @throws ProtocolError: there is none, and the operation is refused.
    virtual std::optional<contract::Buffer> memory_for(const contract::TensorSpec&) { return std::nullopt; }
    virtual void replied(uint64_t number, contract::Buffer result) = 0;
    virtual void refused(uint64_t number, const std::string& reason) = 0;
  };

  /// @param device as of Executor; @param threads of one product on the CPU; @param listener outlives the session;
  /// @param monitor hears of an operation before the listener does; @param collective as of Executor.
  /// @throws InputError if there is no such device.
  Session(const std::string& device, int threads, const SessionLimits& limits, Listener& listener,
          std::shared_ptr<SessionMonitor> monitor = std::make_shared<SessionMonitor>(),
          std::shared_ptr<Collective> collective = nullptr);
  /// With operations of the caller's own.
  Session(std::unique_ptr<Arithmetic> arithmetic, int threads, const SessionLimits& limits, Listener& listener,
          std::shared_ptr<SessionMonitor> monitor);
  /// Drops what waits; a running product, or sum with other workers, is finished first, within its time limit. No call
  /// of the listener comes after.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// @throws ProtocolError for a size over the memory limit on its own, or more waiting operations than allowed.
  void put(contract::OperandId id, contract::Buffer operand);
  void free(std::vector<contract::OperandId> ids);
  void submit(uint64_t number, contract::Operation operation);

  /// Waits until little enough waits that more may be read from a master. A server that asks before it reads never
  /// sees the errors above of an honest master. False if it took longer than `patience`.
  bool wait_for_room(std::chrono::milliseconds patience);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tempo::worker
