/// Takes connections from a listening socket: the one accept loop of workers, the page of metrics and the job service.
#pragma once

#include <atomic>

#include "wire/descriptor.h"

namespace tempo::wire {

/// While the process or the machine has no descriptor or no memory for another connection, poll(2) keeps saying that
/// one waits: then this waits, too, and does not ask at full speed. Peers stay in the queue meanwhile.
class Acceptor {
 public:
  /// @param listening becomes non-blocking. @param flags of every connection, as for accept4(2), beside SOCK_CLOEXEC.
  /// @throws RunError if there is no descriptor left for what stops it.
  explicit Acceptor(UniqueDescriptor listening, int flags = 0);
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  /// Waits for a connection. @returns none once `stop` was called.
  [[nodiscard]] UniqueDescriptor next();
  /// May be called from any thread; lasts.
  void stop();

  [[nodiscard]] const UniqueDescriptor& listening() const { return listening_; }
  /// Readable from `stop` on, for whoever waits for something else.
  [[nodiscard]] const UniqueDescriptor& stopping() const { return stopping_; }

 private:
  void pause() const;

  const UniqueDescriptor listening_, stopping_;
  const int flags_;
  std::atomic<bool> is_stopping_ = false;
};

}  // namespace tempo::wire
