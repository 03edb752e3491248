/// Workers by URI.
#pragma once

#include <memory>
#include <string>

#include "tempo/worker.h"

namespace tempo::offload {

/// `inprocess:`, `inprocess:DEVICE`, `shm://NAME`, `grpc://HOST:PORT` (TLS) or `insecure://HOST:PORT`: one of them.
/// @param threads for workers in this process. @param tls_folder certificates for grpc://, as of make_grpc_worker.
/// @throws InputError for a scheme that is not known, or several workers.
std::shared_ptr<Worker> make_worker(const std::string& uri, int threads, const std::string& tls_folder = {});

}  // namespace tempo::offload
