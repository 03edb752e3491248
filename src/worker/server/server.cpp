#include "worker/server/server.h"

#include <utility>

#include "worker/executor.h"

namespace tempo::worker {

std::unique_ptr<Session> make_session(const ServerOptions& options, Session::Listener& listener,
                                      std::shared_ptr<SessionMonitor> monitor) {
  auto arithmetic =
      options.arithmetic ? options.arithmetic() : std::make_unique<Executor>(options.device, options.collective);
  return std::make_unique<Session>(std::move(arithmetic), options.threads, options.limits, listener,
                                   std::move(monitor));
}

}  // namespace tempo::worker
