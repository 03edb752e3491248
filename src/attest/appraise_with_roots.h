/// `appraise` against other roots than the vendors': for tests, which have no vendor's keys. `appraise` itself calls
/// this, and so does the service's client, whose roots are others in tests alone; tools/check_layering.py sees to it.
#pragma once

#include "attest/appraisal.h"
#include "attest/vendor_roots.h"

namespace tempo::attest {

Appraisal appraise_with_unpinned_roots(const Evidence& evidence, const Collateral& collateral, const Policy& policy,
                                       const Expected& expected, SeenCollateral* seen, const VendorRoots& roots);
Policy policy_from_with_unpinned_roots(const Evidence& evidence, const Collateral& collateral, UtcTime now,
                                       const VendorRoots& roots);

}  // namespace tempo::attest
