// `tempo policy init`: a policy from a piece of evidence.
#include "attest/allowed.h"
#include "attest/appraise_with_roots.h"
#include "attest/intel/policy.h"
#include "attest/runtime_data.h"
#include "attest/simulated.h"
#include "attest/snp/policy.h"
#include "attest/verdict.h"

namespace tempo::attest {
namespace {

void take_intel(Policy& policy, const Evidence& evidence, const Collateral& collateral, UtcTime now,
                const VendorRoots& roots) {
  const Quote quote = parse_quote(evidence.report);
  demand(quote.is_tdx() == (evidence.tee == Tee::kTdx), Aspect::kHardware, "{}: the evidence is a quote of {}",
         name_of(evidence.tee), quote.is_tdx() ? "tdx" : "sgx");
  const QuoteVerified verified = verify_quote(quote, roots, now);
  check_runtime_data(evidence.runtime_data, quote.report_data(), name_of(evidence.tee));
  if (quote.is_tdx())
    policy.tdx = tdx_policy_from(quote.td());
  else
    policy.sgx = sgx_policy_from(quote.enclave());
  const PlatformVerified platform = verify_platform(quote, verified, collateral, roots, now);
  (quote.is_tdx() ? policy.tdx->tcb : policy.sgx->tcb) = tcb_policy_from(quote, verified.pck, platform);
}

}  // namespace

Policy policy_from_with_unpinned_roots(const Evidence& evidence, const Collateral& collateral, UtcTime now,
                                       const VendorRoots& roots) {
  Policy policy;
  switch (evidence.tee) {
    case Tee::kSevSnp:
      policy.sev_snp = snp_policy_from(verify_snp(parse_snp_report(evidence.report), evidence, collateral, roots, now));
      break;
    case Tee::kTdx:
    case Tee::kSgx:
      take_intel(policy, evidence, collateral, now, roots);
      break;
    case Tee::kInsecureSimulated:
      policy.insecure_simulated =
          InsecureSimulatedPolicy{{open_insecure_simulated_report(evidence.report).measurement}};
      break;
  }
  return policy;
}

Policy policy_from(const Evidence& evidence, const Collateral& collateral, UtcTime now) {
  return policy_from_with_unpinned_roots(evidence, collateral, now, pinned_vendor_roots());
}

}  // namespace tempo::attest
