/// Makes workers, and pools of workers, from URIs.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "offload/contract.h"
#include "offload/pool/worker_pool.h"

namespace tempo::offload {

/// @throws InputError unless the URI is `inprocess:`, `inprocess:DEVICE`, `shm://NAME`, `grpc://HOST:PORT` (TLS) or
/// `insecure://HOST:PORT`.
void check_worker_uri(const std::string& uri);

struct WorkerAccess {
  int threads = 1;                             ///< threads of one product, for workers in this process
  std::string tls_folder;                      ///< folder of certificates for grpc://, as make_grpc_worker takes it
  std::chrono::milliseconds patience{10'000};  ///< how long to wait for a worker to appear, and again for its greeting
};

/// Returns one line if workers are reached over grpc:// with certificates that expire within 30 days, else "".
/// @throws InputError if the certificates cannot be used at all.
std::string certificate_warning(const std::vector<std::string>& uris, const WorkerAccess& access);

/// Connects to one worker. @throws InputError as check_worker_uri, and whatever the transport throws.
std::shared_ptr<Worker> make_worker(const std::string& uri, const WorkerAccess& access = {});

/// Wraps each worker of a pool, for example in an observer for the audit or, for tests, in a worker that lies.
using WorkerWrapper = std::function<std::shared_ptr<Worker>(std::shared_ptr<Worker>)>;

/// Connects to workers. Workers that do not answer are tried again while the run goes on.
/// @throws as make_worker if none answers.
std::unique_ptr<WorkerPool> make_worker_pool(const std::vector<std::string>& uris, const WorkerAccess& access,
                                             const PoolOptions& options, const WorkerWrapper& wrap = {});

}  // namespace tempo::offload
