/// Serves masters on other machines over gRPC: docs/formats/wire.md. UNTRUSTED side.
#pragma once

#include <memory>
#include <string>

#include "worker/server/server.h"

namespace tempo::worker {

/// Listens at HOST:PORT until destroyed, which lets running products finish, sends their results and a goodbye, and
/// ends all sessions. Port 0 takes a free one: `address()` says which. Each master has a stream, a thread and operands
/// of its own; those beyond `options.max_sessions` are refused. The standard gRPC health service answers beside it.
/// TLS 1.3, and only with masters whose certificate the authority of `options.tls_folder` signed.
/// @throws InputError for a bad address, one in use, missing certificates, or no such device.
std::unique_ptr<Server> serve_grpc(const std::string& host_port, const ServerOptions& options);

/// Neither encrypted nor authenticated: whoever reaches the port is served, and whoever sits on the wire reads along
/// and alters. For measuring, and for tests.
std::unique_ptr<Server> serve_insecure(const std::string& host_port, const ServerOptions& options);

}  // namespace tempo::worker
