#include "offload/worker_factory.h"

#include <fmt/format.h>

#include <algorithm>

#include "offload/transport/grpc.h"
#include "offload/transport/inprocess.h"
#include "offload/transport/shm.h"
#include "tempo/error.h"
#include "wire/host_port.h"
#include "worker/executor.h"

namespace tempo::offload {
namespace {

constexpr std::string_view kInprocess = "inprocess:", kShm = "shm://", kGrpc = "grpc://", kInsecure = "insecure://";
constexpr std::chrono::milliseconds kShortPatience{1'000};  // for attempts that are repeated anyway

/// Whether the URI has this scheme; if so, `rest` receives what follows it.
bool has_scheme(const std::string& uri, std::string_view scheme, std::string& rest) {
  if (!uri.starts_with(scheme)) return false;
  rest = uri.substr(scheme.size());
  return true;
}

}  // namespace

void check_worker_uri(const std::string& uri) {
  std::string rest;
  if (has_scheme(uri, kInprocess, rest) || has_scheme(uri, kShm, rest)) return;
  if (has_scheme(uri, kGrpc, rest) || has_scheme(uri, kInsecure, rest)) {
    wire::parse_host_port(rest);
    return;
  }
  throw InputError(
      fmt::format("workers: got \"{}\", expected local, inprocess:, inprocess:DEVICE, shm://NAME, "
                  "grpc://HOST:PORT or insecure://HOST:PORT",
                  uri));
}

std::string certificate_warning(const std::vector<std::string>& uris, const WorkerAccess& access) {
  const bool uses_tls =
      std::any_of(uris.begin(), uris.end(), [](const std::string& uri) { return uri.starts_with(kGrpc); });
  return uses_tls ? grpc_expiry_warning(access.tls_folder) : std::string();
}

std::shared_ptr<Worker> make_worker(const std::string& uri, const WorkerAccess& access) {
  check_worker_uri(uri);
  std::string rest;
  if (has_scheme(uri, kInprocess, rest))
    return make_inprocess_worker(rest.empty() ? worker::Executor::default_device() : rest, access.threads);
  if (has_scheme(uri, kShm, rest)) return make_shm_worker(rest, {.connect = access.patience});
  if (has_scheme(uri, kGrpc, rest)) return make_grpc_worker(rest, access.tls_folder, {.connect = access.patience});
  has_scheme(uri, kInsecure, rest);
  return make_insecure_worker(rest, {.connect = access.patience});
}

std::unique_ptr<WorkerPool> make_worker_pool(const std::vector<std::string>& uris, const WorkerAccess& access,
                                             const PoolOptions& options, const WorkerWrapper& wrap) {
  const auto connect_with = [access, wrap](std::chrono::milliseconds patience) {
    return [access, wrap, patience](const std::string& uri) {
      WorkerAccess hurried = access;
      hurried.patience = patience;
      auto worker = make_worker(uri, hurried);
      return wrap ? wrap(std::move(worker)) : worker;
    };
  };
  return std::make_unique<WorkerPool>(uris, connect_with(access.patience), connect_with(kShortPatience), options);
}

}  // namespace tempo::offload
