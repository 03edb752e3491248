/// Whom all trust in hardware goes back to: AMD's and Intel's certificates, compiled in from roots/.
#pragma once

#include <string>
#include <vector>

#include "attest/crypto/openssl.h"

namespace tempo::attest {

/// One line of processors: its root and what that signed.
struct AmdProduct {
  std::string name;      // "milan", as in a policy
  std::string suffix;    // "Milan", as in the names of its certificates
  bool has_fmc;          // security versions in Turin's order, chip id of 8 bytes
  UniqueX509 ark;        // the only anchor
  UniqueX509 ask, asvk;  // issuers of VCEKs and VLEKs, at hand so that evidence need not bring them
};

struct VendorRoots {
  std::vector<AmdProduct> amd;
  UniqueX509 intel;
};

/// The pinned ones. Made once; thread-safe.
const VendorRoots& pinned_vendor_roots();

}  // namespace tempo::attest
