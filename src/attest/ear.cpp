#include "attest/ear.h"

#include "attest/crypto/openssl.h"

namespace tempo::attest {
namespace {

// Values of a trustworthiness claim (draft-ietf-rats-ar4si).
constexpr int kNoClaim = 0, kAffirming = 2, kContraindicated = 96, kUnrecognized = 97;

/// A check ends at the first that fails: of the others nothing is claimed. Evidence of no hardware affirms none.
Json trustworthiness(const Ear& ear, const Policy& policy) {
  const bool is_simulated = ear.tee == Tee::kInsecureSimulated;
  const bool is_machine_known =
      (ear.tee == Tee::kSevSnp && policy.sev_snp && !policy.sev_snp->chip_ids.empty()) ||
      (ear.tee == Tee::kTdx && policy.tdx && !policy.tdx->tcb.platform_instance_ids.empty()) ||
      (ear.tee == Tee::kSgx && policy.sgx && !policy.sgx->tcb.platform_instance_ids.empty());
  const auto value = [&](Aspect aspect) {
    if (ear.refused == aspect) return ear.is_verified ? kContraindicated : kUnrecognized;
    if (ear.refused) return kNoClaim;
    if (aspect == Aspect::kHardware && is_simulated) return kNoClaim;
    if (aspect == Aspect::kInstanceIdentity && !is_machine_known) return kNoClaim;
    return kAffirming;
  };
  return {{"hardware", value(Aspect::kHardware)},
          {"instance-identity", value(Aspect::kInstanceIdentity)},
          {"executables", value(Aspect::kExecutables)},
          {"configuration", value(Aspect::kConfiguration)}};
}

}  // namespace

std::string to_json(const Ear& ear, const std::string& reason, const Policy& policy) {
  const bool is_accepted = !ear.refused.has_value();
  const Digest32 policy_hash = sha256(as_view(to_json(policy)));
  const bool is_simulated = ear.tee == Tee::kInsecureSimulated;
  Json submodule = {{"ear.status", !is_accepted   ? "contraindicated"
                                   : is_simulated ? "none"
                                                  : "affirming"},
                    {"ear.trustworthiness-vector", trustworthiness(ear, policy)},
                    {"ear.appraisal-policy-id", "sha-256:" + to_hex(policy_hash)},
                    {"tempo.claims", ear.claims},
                    {"tempo.claims-verified", ear.is_verified}};
  if (!is_accepted) submodule["tempo.reason"] = reason;
  const Json json = {{"eat_profile", "tag:github.com,2023:veraison/ear"},
                     {"iat", ear.now.time_since_epoch().count()},
                     {"ear.verifier-id", {{"developer", "tempo"}, {"build", "tempo attest 1"}}},
                     {"submods", {{std::string(name_of(ear.tee)), submodule}}}};
  return json.dump(2, ' ', true, Json::error_handler_t::replace) + "\n";
}

}  // namespace tempo::attest
