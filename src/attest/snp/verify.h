/// From AMD's root to the report: docs/attestation.md has the steps.
#pragma once

#include "attest/collateral.h"
#include "attest/crypto/certificates.h"
#include "attest/evidence.h"
#include "attest/seen_collateral.h"
#include "attest/snp/endorsement.h"
#include "attest/snp/report.h"
#include "attest/vendor_roots.h"

namespace tempo::attest {

/// A report that AMD's key vouches for.
struct SnpVerified {
  SnpReport report;
  std::string product;  // "milan"
  SnpEndorsement endorsement;
  SnpTcb current, reported, committed, launch;
  bool is_vlek = false;
  bool has_crl = false;
  SeenCollateral used;
};

/// The product of a report's CPUID. None if it is not known here.
const AmdProduct* amd_product(const VendorRoots& roots, uint8_t family, uint8_t model);

/// Verifies that `leaf` is a VCEK or VLEK of `product`, by the issuer that signs such. @returns that issuer.
/// @throws AttestationError.
UniqueX509 verify_amd_chain(X509* leaf, bool is_vlek, const AmdProduct& product,
                            const std::vector<X509*>& intermediates, UtcTime now);

/// @throws AttestationError naming the first step that fails.
SnpVerified verify_snp(const SnpReport& report, const Evidence& evidence, const Collateral& collateral,
                       const VendorRoots& roots, UtcTime now);

}  // namespace tempo::attest
