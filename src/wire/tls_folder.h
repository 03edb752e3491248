/// The certificates of one end of a connection. Both ends prove who they are, and speak TLS 1.3 or not at all.
#pragma once

#include <filesystem>
#include <string>

namespace tempo::wire {

/// PEM texts. `ca` is whom this end believes; `certificate` and `key` are its own.
struct TlsIdentity {
  std::string ca, certificate, key;
};

/// Reads `ca.pem`, `NAME.pem` and `NAME.key` of a folder that `tempo keygen --tls` made. @param name worker or master.
/// @throws InputError if the folder is not named, a file is missing or too large, others may read the key, or as of
/// check_own_certificate.
TlsIdentity load_tls_identity(const std::filesystem::path& folder, const std::string& name);

/// gRPC 1.51 accepts TLS 1.2 as well, and its API does not let it be refused: this tells OpenSSL, for this process.
/// To be called before a connection is made. @throws RunError if OpenSSL does not take it.
void refuse_tls_before_1_3();

}  // namespace tempo::wire
