/// A worker on another machine, over gRPC. Format, limits and order of messages: docs/formats/wire.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "tempo/worker.h"

namespace tempo::offload {

struct GrpcOptions {
  std::chrono::milliseconds connect{10'000};     ///< for the worker to appear, and again for its greeting
  std::chrono::milliseconds keepalive{10'000};   ///< how long a connection may be silent, and a ping unanswered
  std::chrono::milliseconds stall{30'000};       ///< a worker that takes nothing for so long is lost
  uint64_t max_reply_bytes = uint64_t{1} << 32;  ///< of one reply, whatever was asked for
};

/// Connects to `tempo-worker --listen grpc://HOST:PORT` with TLS 1.3: the worker's certificate must name HOST and be
/// signed by `ca.pem` of the folder, and the worker asks the same of `master.pem`. Thread-safe. Its buffers are
/// ordinary memory of this process and outlive it. `put` sends from the buffer's memory, and waits while much is
/// unsent; `submit` waits while 1,024 operations are under way. A reply is received into memory that only this process
/// has, if it is no larger than the operation's result can be. The network sees sizes and timing of what is sent, not
/// the blinded values.
/// @throws InputError for a bad address or missing certificates, WorkerLostError if no worker answers, or none that
/// both sides trust, ProtocolError if what answers is none.
std::shared_ptr<Worker> make_grpc_worker(const std::string& host_port, const std::filesystem::path& tls_folder,
                                         const GrpcOptions& options = {});

/// One line, if a certificate of the folder expires within 30 days; else nothing. @throws InputError as
/// make_grpc_worker
std::string grpc_expiry_warning(const std::filesystem::path& tls_folder);

/// Without encryption, and with whoever answers: the network reads the blinded operands along, and can alter them.
std::shared_ptr<Worker> make_insecure_worker(const std::string& host_port, const GrpcOptions& options = {});

}  // namespace tempo::offload
