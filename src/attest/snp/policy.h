/// A verified report against a client's policy.
#pragma once

#include "attest/crypto/json.h"
#include "attest/policy.h"
#include "attest/snp/verify.h"

namespace tempo::attest {

/// @throws Refused naming the first field that does not allow what is reported.
void check_policy(const SnpVerified& verified, const SnpPolicy& policy);
/// A policy that allows exactly this. @throws Refused for a report that no policy allows.
SnpPolicy snp_policy_from(const SnpVerified& verified);
/// All fields that a reader may want, for the EAR.
Json claims_of(const SnpReport& report);

}  // namespace tempo::attest
