/// From Intel's root to the quote: docs/attestation.md has the steps.
#pragma once

#include <utility>
#include <vector>

#include "attest/collateral.h"
#include "attest/crypto/certificates.h"
#include "attest/intel/tcb_info.h"
#include "attest/seen_collateral.h"
#include "attest/vendor_roots.h"

namespace tempo::attest {

/// A quote that a key of Intel's vouches for; whether that key, and the firmware it vouches for, are still good is
/// another question (`verify_platform`).
struct QuoteVerified {
  PckFacts pck;
  std::vector<UniqueX509> pck_chain;  // as it came in the quote, leaf first
};
/// Signature of the body, its key bound by the quoting enclave's report, that report signed by the PCK key, that key
/// certified by Intel. @throws AttestationError naming the first step that fails.
QuoteVerified verify_quote(const Quote& quote, const VendorRoots& roots, UtcTime now);

/// What Intel says of the platform now.
struct PlatformVerified {
  TcbVerdict tcb;
  uint32_t evaluation_number = 0;  // the lower of TCB info's and QE identity's
  /// When what was relied on was issued; without the root's revocation list, which is good for a year.
  std::vector<std::pair<std::string, UtcTime>> issued;
  SeenCollateral used;
};
/// Revocation lists of the root and of the PCK's authority, TCB info and QE identity: each at hand, signed, valid now.
/// @throws AttestationError naming the first step that fails.
PlatformVerified verify_platform(const Quote& quote, const QuoteVerified& verified, const Collateral& collateral,
                                 const VendorRoots& roots, UtcTime now);

/// Whether `statement` was signed with this certificate's key.
[[nodiscard]] bool signs(const X509* certificate, const SignedJson& statement);

}  // namespace tempo::attest
