/// One master of a shared-memory server: its segment, its connection and its operands. UNTRUSTED side; and it does not
/// trust the master: whatever that writes, only its own session can suffer.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "wire/descriptor.h"
#include "wire/messages.h"
#include "wire/shm_channel.h"
#include "worker/server/server.h"
#include "worker/session.h"

namespace tempo::worker {

class ShmSession {
 public:
  /// Creates the segment and hands it to the master.
  /// @throws ProtocolError if the peer is another user's or is gone, RunError if there is no memory.
  ShmSession(wire::UniqueDescriptor socket, const ServerOptions& options);
  ~ShmSession();
  ShmSession(const ShmSession&) = delete;
  ShmSession& operator=(const ShmSession&) = delete;

  /// Serves until the master leaves, breaks the protocol, or `stop` is called; then frees all it stored.
  void run() noexcept;
  /// From any thread.
  void stop();

 private:
  class Memory;
  class Replies;

  void greet();
  void serve();
  void say_goodbye(const std::string& reason) noexcept;

  void handle(const wire::Hello&);
  void handle(const wire::Chunk&);
  void handle(const wire::Put& put);
  void handle(const wire::Free& freed);
  void handle(const wire::Submit& submit);
  void handle(const wire::Release& release);

  const ServerOptions options_;
  std::atomic<bool> is_stopping_ = false;
  std::shared_ptr<SessionMonitor> monitor_ = std::make_shared<SessionMonitor>();
  std::shared_ptr<Memory> memory_;
  std::unique_ptr<Replies> replies_;
  std::unique_ptr<Session> session_;
};

}  // namespace tempo::worker
