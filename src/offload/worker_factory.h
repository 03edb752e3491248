/// Workers by URI.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "offload/pool/worker_pool.h"
#include "tempo/worker.h"

namespace tempo::offload {

/// @throws InputError unless it is `inprocess:`, `inprocess:DEVICE`, `shm://NAME`, `grpc://HOST:PORT` (TLS) or
/// `insecure://HOST:PORT`.
void check_worker_uri(const std::string& uri);

struct WorkerAccess {
  int threads = 1;                             ///< of workers in this process
  std::string tls_folder;                      ///< certificates for grpc://, as of make_grpc_worker
  std::chrono::milliseconds patience{10'000};  ///< for a worker to appear, and again for its greeting
};

/// One line, if workers are reached over grpc:// with certificates that expire within 30 days; else nothing.
/// @throws InputError if the certificates cannot be used at all
std::string certificate_warning(const std::vector<std::string>& uris, const WorkerAccess& access);

/// Connects to one worker. @throws InputError as check_worker_uri, and what the transport throws
std::shared_ptr<Worker> make_worker(const std::string& uri, const WorkerAccess& access = {});

/// Puts something between a pool and each of its workers: the audit's observer, a liar.
using WorkerWrapper = std::function<std::shared_ptr<Worker>(std::shared_ptr<Worker>)>;

/// Connects to workers; those that do not answer are looked for while the run goes on.
/// @throws as make_worker if none answers
std::unique_ptr<WorkerPool> make_worker_pool(const std::vector<std::string>& uris, const WorkerAccess& access,
                                             const PoolOptions& options, const WorkerWrapper& wrap = {});

}  // namespace tempo::offload
