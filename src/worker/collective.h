/// Sums of operands among workers, through torch.distributed's c10d. UNTRUSTED side; and a worker trusts neither its
/// master nor the other workers further than said here: docs/threat-model.md.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tempo/worker.h"

namespace at {
class Tensor;
}

namespace tempo::worker {

struct CollectiveOptions {
  std::string listen;                         ///< HOST:PORT where other workers find this one; port 0: a free one
  std::vector<std::string> peers;             ///< hosts whose rendezvous it may enter; none: those of loopback
  std::chrono::milliseconds timeout{10'000};  ///< of joining a group, and of one sum
};

/// One session's place in a group of workers. Of one thread at a time.
class WorkerGroup {
 public:
  virtual ~WorkerGroup() = default;

  /// @param operand float32 or float64; one that is not defined says to the others that there is none here.
  /// @returns the sum over the group, the same bits at every member, on the operand's device. The operand is unchanged.
  /// @throws ProtocolError at all members where their operands differ or one has none: the group goes on. Also if a
  /// member is gone, or silent for the time limit: the group is over then.
  virtual at::Tensor sum(const at::Tensor& operand) = 0;
};

/// One for all sessions of a worker: has the rendezvous of groups whose first member it is. Thread-safe.
/// Its destructor waits for what was given up and still goes on by itself, for about the time limit.
class Collective {
 public:
  virtual ~Collective() = default;

  /// HOST:PORT, with the port that is used.
  [[nodiscard]] virtual std::string address() const = 0;
  /// Waits until all members have joined. Connects to the rendezvous only if its host is one of the peers.
  /// @param device on which the operands lie, as of Executor.
  /// @throws ProtocolError with a reason otherwise, or when the time limit is over.
  virtual std::unique_ptr<WorkerGroup> join(const contract::JoinGroup& group, const std::string& device) = 0;
};

/// The process must ignore SIGPIPE: a member may be gone.
/// @throws InputError for an address that is not this machine's or in use, a peer that is not a host, or a program that
/// was built without (TEMPO_COLLECTIVE=OFF).
std::shared_ptr<Collective> make_collective(const CollectiveOptions& options);

}  // namespace tempo::worker
