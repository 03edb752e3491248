#include "attest/intel/policy.h"

#include <algorithm>

#include "attest/allowed.h"
#include "attest/named_bits.h"
#include "attest/verdict.h"

namespace tempo::attest {
namespace {

constexpr uint32_t kMiscExInfo = 1;

uint64_t low_word(const Digest16& attributes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= std::to_integer<uint64_t>(attributes[i]) << (8 * i);
  return value;
}

template <typename Bits>
uint64_t all_of(const Bits& bits) {
  uint64_t all = 0;
  for (const NamedBit& bit : bits) all |= bit.bit;
  return all;
}

/// Each of 16 security versions, of which the lowest that is too low is named.
void check_components(const std::array<uint8_t, 16>& found, const Digest16& least, const char* what) {
  for (size_t i = 0; i < found.size(); ++i)
    demand(found[i] >= std::to_integer<uint8_t>(least[i]), kHardware, "{} {} is {}, the policy's minimum is {}", what,
           i, found[i], std::to_integer<uint8_t>(least[i]));
}

std::array<uint8_t, 16> numbers(const Digest16& svn) {
  std::array<uint8_t, 16> out{};
  std::transform(svn.begin(), svn.end(), out.begin(), [](std::byte byte) { return std::to_integer<uint8_t>(byte); });
  return out;
}

void check_td_attributes(const TdReport& td, const TdxPolicy& policy) {
  demand((td.td_attributes & kTdDebug) == 0, kConfiguration, "tdx: the TD is debuggable (attributes {:#x})",
         td.td_attributes);
  demand((td.td_attributes & ~(kTdSeptVeDisable | all_of(kTdAllowable))) == 0, kConfiguration,
         "tdx: attributes {:#x} have bits that are not known here", td.td_attributes);
  demand((td.td_attributes & kTdSeptVeDisable) != 0 || policy.allowed_attributes.contains(std::string(kSeptVe)),
         kConfiguration, "tdx: SEPT_VE_DISABLE is not set, the policy does not allow sept-ve");
  for (const std::string& name : names_in(kTdAllowable, td.td_attributes))
    demand(policy.allowed_attributes.contains(name), kConfiguration, "tdx: attribute {} is not allowed by the policy",
           name);
}

}  // namespace

void check_policy(const TdReport& td, const TdxPolicy& policy) {
  check_td_attributes(td, policy);
  const auto check = [](const Digest48& value, const Allowed<Digest48>& allowed, const std::string& what,
                        Aspect aspect) {
    demand(is_allowed(value, allowed), aspect, "tdx: {} {} is not in the policy", what, to_hex(value));
  };
  demand(is_listed(td.mrtd, policy.mrtd), kExecutables, "tdx: mrtd {} is not in the policy", to_hex(td.mrtd));
  for (size_t i = 0; i < td.rtmr.size(); ++i) check(td.rtmr[i], policy.rtmr[i], fmt::format("rtmr{}", i), kExecutables);
  check(td.mr_service_td, policy.mr_service_td, "mr_service_td", kExecutables);
  check(td.mr_config_id, policy.mr_config_id, "mr_config_id", kConfiguration);
  check(td.mr_owner, policy.mr_owner, "mr_owner", kConfiguration);
  check(td.mr_owner_config, policy.mr_owner_config, "mr_owner_config", kConfiguration);
  demand(policy.mr_seam.empty() || is_listed(td.mr_seam, policy.mr_seam), kHardware,
         "tdx: mr_seam {} is not in the policy", to_hex(td.mr_seam));
  check_components(numbers(td.tee_tcb_svn), policy.minimum_tee_tcb_svn, "tdx: TEE TCB component");
}

void check_policy(const EnclaveReport& enclave, const SgxPolicy& policy) {
  const uint64_t attributes = low_word(enclave.attributes);
  demand((attributes & kSgxDebug) == 0, kConfiguration, "sgx: the enclave is debuggable (attributes {:#x})",
         attributes);
  demand((attributes & ~(kSgxInit | kSgxMode64 | all_of(kSgxAllowable))) == 0 && (attributes & kSgxInit) != 0 &&
             (attributes & kSgxMode64) != 0 && (enclave.misc_select & ~kMiscExInfo) == 0,
         kConfiguration, "sgx: attributes {:#x}, MISCSELECT {:#x} have bits that are not known here", attributes,
         enclave.misc_select);
  for (const std::string& name : names_in(kSgxAllowable, attributes))
    demand(policy.allowed_attributes.contains(name), kConfiguration, "sgx: attribute {} is not allowed by the policy",
           name);
  const bool is_signed = std::any_of(policy.signers.begin(), policy.signers.end(), [&](const SgxSigner& signer) {
    return signer.mrsigner == enclave.mrsigner && signer.product_id == enclave.product_id &&
           enclave.svn >= signer.minimum_svn;
  });
  demand(is_signed || is_listed(enclave.mrenclave, policy.mrenclave), kExecutables,
         "sgx: neither mrenclave {} nor signer {}, product {}, SVN {} is in the policy", to_hex(enclave.mrenclave),
         to_hex(enclave.mrsigner), enclave.product_id, enclave.svn);
  demand(is_allowed(enclave.config_id, policy.config_id), kConfiguration, "sgx: config_id is not in the policy");
  demand(enclave.config_svn >= policy.minimum_config_svn, kConfiguration,
         "sgx: config SVN {}, the policy's minimum is {}", enclave.config_svn, policy.minimum_config_svn);
}

void check_policy(const Quote& quote, const PckFacts& pck, const PlatformVerified& platform,
                  const IntelTcbPolicy& policy, std::optional<uint32_t> maximum_age_days, UtcTime now) {
  const char* const tee = quote.is_tdx() ? "tdx" : "sgx";
  const std::string status(name_of(platform.tcb.merged));
  demand(platform.tcb.merged != TcbStatus::kRevoked, kHardware, "{}: TCB status Revoked", tee);
  demand(policy.tcb_statuses.contains(status), kHardware, "{}: TCB status {} is not accepted by the policy", tee,
         status);
  for (const std::string& advisory : platform.tcb.advisories)
    demand(policy.advisories.contains(advisory), kHardware, "{}: advisory {} applies, the policy does not accept it",
           tee, advisory);
  demand(platform.evaluation_number >= policy.minimum_tcb_evaluation_data_number, kHardware,
         "{}: TCB evaluation data number {}, the policy's minimum is {}", tee, platform.evaluation_number,
         policy.minimum_tcb_evaluation_data_number);
  if (maximum_age_days)
    for (const auto& [item, issued] : platform.issued)
      demand(now - issued <= std::chrono::days(*maximum_age_days), kHardware,
             "{}: {} was issued {}, over the policy's {} days ago", tee, item, to_text(issued), *maximum_age_days);
  demand(pck.pce_svn >= policy.minimum_pce_svn, kHardware, "{}: PCE SVN {}, the policy's minimum is {}", tee,
         pck.pce_svn, policy.minimum_pce_svn);
  demand(quote.qe_report.svn >= policy.minimum_qe_svn, kHardware, "{}: QE SVN {}, the policy's minimum is {}", tee,
         quote.qe_report.svn, policy.minimum_qe_svn);
  check_components(pck.components, policy.minimum_tcb_components,
                   quote.is_tdx() ? "tdx: TCB component" : "sgx: TCB component");
  if (policy.platform_instance_ids.empty()) return;
  demand(pck.platform_instance_id.has_value(), kInstanceIdentity,
         "{}: the platform has no instance id, the policy lists some", tee);
  demand(is_listed(*pck.platform_instance_id, policy.platform_instance_ids), kInstanceIdentity,
         "{}: platform instance id is not in the policy", tee);
}

TdxPolicy tdx_policy_from(const TdReport& td) {
  TdxPolicy policy;
  const auto only = [](const Digest48& value) {
    return is_zero(value) ? Allowed<Digest48>{} : Allowed<Digest48>{{value}, false};
  };
  policy.mrtd = {td.mrtd};
  for (size_t i = 0; i < td.rtmr.size(); ++i) policy.rtmr[i] = only(td.rtmr[i]);
  policy.mr_config_id = only(td.mr_config_id);
  policy.mr_owner = only(td.mr_owner);
  policy.mr_owner_config = only(td.mr_owner_config);
  policy.mr_service_td = only(td.mr_service_td);
  policy.allowed_attributes = names_in(kTdAllowable, td.td_attributes);
  if ((td.td_attributes & kTdSeptVeDisable) == 0) policy.allowed_attributes.emplace(kSeptVe);
  policy.minimum_tee_tcb_svn = td.tee_tcb_svn;
  check_policy(td, policy);
  return policy;
}

SgxPolicy sgx_policy_from(const EnclaveReport& enclave) {
  SgxPolicy policy;
  policy.mrenclave = {enclave.mrenclave};
  policy.allowed_attributes = names_in(kSgxAllowable, low_word(enclave.attributes));
  if (!is_zero(enclave.config_id)) policy.config_id.values = {enclave.config_id};
  policy.minimum_config_svn = enclave.config_svn;
  check_policy(enclave, policy);
  return policy;
}

IntelTcbPolicy tcb_policy_from(const Quote& quote, const PckFacts& pck, const PlatformVerified& platform) {
  IntelTcbPolicy policy;
  policy.tcb_statuses = {std::string(name_of(platform.tcb.merged))};
  policy.advisories = platform.tcb.advisories;
  policy.minimum_tcb_evaluation_data_number = platform.evaluation_number;
  policy.minimum_pce_svn = pck.pce_svn;
  policy.minimum_qe_svn = quote.qe_report.svn;
  for (size_t i = 0; i < pck.components.size(); ++i) policy.minimum_tcb_components[i] = std::byte{pck.components[i]};
  check_policy(quote, pck, platform, policy, std::nullopt, {});
  return policy;
}

}  // namespace tempo::attest
