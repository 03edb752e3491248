/// The job service: a listener, the jobs, and what speaks for them.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "attest/source.h"
#include "service/job_store.h"
#include "service/jobs_page.h"
#include "service/listener.h"
#include "service/session.h"

namespace tempo::service {

struct ServerOptions {
  wire::HostPort listen;
  std::filesystem::path state;
  RunConfig base;  ///< workers, tls, waits and threads of every job
  StoreLimits store;
  ListenerLimits listener;
  std::string page;  ///< PORT of localhost, or HOST:PORT, of the operator's list of jobs; "": nowhere
};

/// What the evidence's config hash is over, as JSON: all that an operator can set and a client may care about.
/// Addresses of workers are not in it, since workers are not trusted; the certificate authority that vouches for them
/// is.
std::string configuration_of(const ServerOptions& options, attest::Tee tee);

/// Serves until destroyed. Its TLS key and its key-release key are made here and live in memory alone: after a restart
/// nobody can be made to believe that it is the service of before.
class Server {
 public:
  /// @param evidence, log outlive it. @param train `run_training`.
  /// @throws InputError for an address, a folder or settings that cannot be used.
  Server(const ServerOptions& options, attest::EvidenceSource& evidence, Job::Train train, observe::Log& log);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] uint16_t port() const { return listener_->port(); }
  /// Where the list of jobs is served, or "".
  [[nodiscard]] std::string page() const { return page_ ? page_->address() : std::string(); }
  [[nodiscard]] const std::string& configuration() const { return configuration_; }

 private:
  const TlsIdentity identity_;
  const ReleaseKey release_key_;
  const std::string configuration_;
  JobStore jobs_;
  JobQueue queue_;
  std::unique_ptr<JobsPage> page_;      // or nullptr
  std::unique_ptr<Listener> listener_;  // last: it calls the rest
};

}  // namespace tempo::service
