/// What Intel certifies of a platform: the SGX extension of a PCK certificate (Intel SGX PCK certificate and CRL
/// profile).
#pragma once

#include <openssl/x509.h>

#include <optional>

#include "attest/types.h"

namespace tempo::attest {

using Fmspc = std::array<std::byte, 6>;

struct PckFacts {
  Fmspc fmspc{};
  std::array<std::byte, 2> pce_id{};
  std::array<uint8_t, 16> components{};
  uint16_t pce_svn = 0;
  Digest16 cpu_svn{};
  std::optional<Digest16> platform_instance_id;  // multi-package platforms
};

/// @throws AttestationError if the extension is missing, has a field twice, lacks one, or one is malformed.
PckFacts read_pck(const X509* certificate);

}  // namespace tempo::attest
