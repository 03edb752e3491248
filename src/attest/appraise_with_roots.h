/// `appraise` against other roots than the vendors': for tests, which have no vendor's keys. Nothing but tests and
/// `appraise` itself calls this.
#pragma once

#include "attest/appraisal.h"
#include "attest/vendor_roots.h"

namespace tempo::attest {

Appraisal appraise_with_unpinned_roots(const Evidence& evidence, const Collateral& collateral, const Policy& policy,
                                       const Expected& expected, SeenCollateral* seen, const VendorRoots& roots);
Policy policy_from_with_unpinned_roots(const Evidence& evidence, const Collateral& collateral, UtcTime now,
                                       const VendorRoots& roots);

}  // namespace tempo::attest
