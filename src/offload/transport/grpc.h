/// A worker on another machine, over gRPC. Format, limits and order of messages: docs/formats/wire.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "offload/contract.h"

namespace tempo::offload {

struct GrpcOptions {
  std::chrono::milliseconds connect{10'000};  ///< how long to wait for the worker to appear, and again for its greeting
  /// How long a connection may be silent before a ping, and a ping unanswered.
  std::chrono::milliseconds keepalive{10'000};
  std::chrono::milliseconds stall{30'000};       ///< a worker that reads nothing for this long is lost
  uint64_t max_reply_bytes = uint64_t{1} << 32;  ///< limit of one reply, whatever the operation
};

/// Connects to `tempo-worker --listen grpc://HOST:PORT` with TLS 1.3. The worker's certificate must name HOST and be
/// signed by the folder's `ca.pem`, and the worker requires the same CA of `master.pem`.
/// The worker is thread-safe. Its buffers are ordinary memory of this process and may outlive it. `put` sends from the
/// buffer's memory and waits while much is unsent. `submit` waits while 1,024 operations are under way. A reply is
/// received into private memory of this process, and refused if it is larger than the operation's result can be.
/// The network learns sizes and timing of what is sent, not the blinded values.
/// @throws InputError for a bad address or missing certificates; WorkerLostError if no worker answers, or none that is
/// trusted and trusts this side; ProtocolError if what answers is not a worker.
std::shared_ptr<Worker> make_grpc_worker(const std::string& host_port, const std::filesystem::path& tls_folder,
                                         const GrpcOptions& options = {});

/// Returns one line if a certificate of the folder expires within 30 days, else "". @throws InputError as
/// make_grpc_worker.
std::string grpc_expiry_warning(const std::filesystem::path& tls_folder);

/// Connects without encryption or authentication, to whatever answers: the network can read the blinded operands and
/// alter them.
std::shared_ptr<Worker> make_insecure_worker(const std::string& host_port, const GrpcOptions& options = {});

}  // namespace tempo::offload
