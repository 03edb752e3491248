/// What AMD certifies of a chip's (VCEK) or a cloud's (VLEK) signing key: certificate extensions under
/// 1.3.6.1.4.1.3704.1 (AMD 57230, 55766).
#pragma once

#include <openssl/x509.h>

#include <optional>

#include "attest/snp/report.h"

namespace tempo::attest {

struct SnpEndorsement {
  std::string product;  // e.g. "Milan-B0", as certified
  SnpTcb tcb;
  bool has_fmc = false;
  std::optional<Bytes> hwid;  // VCEK: 64 bytes, or 8 from Turin on
  std::string csp_id;         // VLEK: which cloud; empty for a VCEK
};

/// Takes the hardware id raw or as an OCTET STRING: AMD has written both.
/// @throws AttestationError if an extension is missing, twice there, or malformed.
SnpEndorsement read_endorsement(const X509* certificate);

}  // namespace tempo::attest
