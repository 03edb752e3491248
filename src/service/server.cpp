#include "service/server.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/file.h"
#include "service/frame_stream.h"
#include "tempo/error.h"

namespace tempo::service {
namespace {

constexpr size_t kMaxPemBytes = 1 << 20;

/// "grpc", "shm", ...: how operands leave the service, whoever they go to.
std::set<std::string> transports_of(const std::string& workers) {
  std::set<std::string> kinds;
  std::istringstream list(workers);
  for (std::string uri; std::getline(list, uri, ',');) kinds.insert(uri.substr(0, uri.find(':')));
  return kinds;
}

std::string authority_of(const RunConfig& base) {
  if (base.tls.empty()) return "";
  return attest::to_hex(sha256(read_file(std::filesystem::path(base.tls) / "ca.pem", kMaxPemBytes)));
}

}  // namespace

std::string configuration_of(const ServerOptions& options, attest::Tee tee) {
  const nlohmann::ordered_json json{{"version", 1},
                                    {"tee", attest::name_of(tee)},
                                    {"transports", transports_of(options.base.workers)},
                                    {"worker_authority", authority_of(options.base)},
                                    {"max_upload_bytes", options.store.archive_bytes},
                                    {"max_jobs", options.store.jobs},
                                    {"max_jobs_per_client", options.store.jobs_per_client}};
  return json.dump();
}

Server::Server(const ServerOptions& options, attest::EvidenceSource& evidence, Job::Train train, observe::Log& log)
    : identity_(TlsIdentity::make()),
      configuration_(configuration_of(options, evidence.tee())),
      jobs_(options.state, options.store, log),
      queue_(options.base, train, log) {
  const ServiceParts parts{evidence, release_key_, configuration_, jobs_, queue_, log};
  const auto serve = [parts](const ChannelBinding& binding, wire::UniqueDescriptor socket) {
    const auto session = std::make_shared<Session>(parts, binding);
    return serve_session(std::move(socket),
                         [session](const v1::JobRequest& request) { return session->answer(request); });
  };
  if (!options.page.empty()) page_ = std::make_unique<JobsPage>(options.page, jobs_, queue_);
  listener_ = std::make_unique<Listener>(options.listen, identity_, options.listener, log, serve);
}

Server::~Server() { listener_.reset(); }

}  // namespace tempo::service
