/// A verified quote against a client's policy.
#pragma once

#include "attest/crypto/json.h"
#include "attest/intel/verify.h"
#include "attest/policy.h"

namespace tempo::attest {

/// What is in the body alone. @throws Refused naming the first field that does not allow what is reported.
void check_policy(const TdReport& td, const TdxPolicy& policy);
void check_policy(const EnclaveReport& enclave, const SgxPolicy& policy);

/// The platform. @param maximum_age_days of the collateral; none: only its own expiry counts.
void check_policy(const Quote& quote, const PckFacts& pck, const PlatformVerified& platform,
                  const IntelTcbPolicy& policy, std::optional<uint32_t> maximum_age_days, UtcTime now);

/// Policies that allow exactly this. @throws Refused for what no policy allows.
TdxPolicy tdx_policy_from(const TdReport& td);
SgxPolicy sgx_policy_from(const EnclaveReport& enclave);
IntelTcbPolicy tcb_policy_from(const Quote& quote, const PckFacts& pck, const PlatformVerified& platform);

/// All fields that a reader may want, for the EAR.
Json claims_of(const Quote& quote);
Json claims_of(const PckFacts& pck);
Json claims_of(const PlatformVerified& platform);

}  // namespace tempo::attest
