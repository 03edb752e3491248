/// Finds out why no TLS connection comes about: gRPC says only that there is none.
#pragma once

#include <chrono>
#include <string>

#include "wire/host_port.h"
#include "wire/tls_folder.h"

namespace tempo::wire {

/// Makes one TLS handshake as a master would and says which certificate is not accepted, and why; nothing if the
/// handshake succeeds, or nobody answers. What comes from the peer is only dates and codes.
std::string explain_tls_failure(const HostPort& worker, const TlsIdentity& identity,
                                std::chrono::milliseconds patience);

}  // namespace tempo::wire
