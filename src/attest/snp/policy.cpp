#include "attest/snp/policy.h"

#include <algorithm>

#include "attest/allowed.h"
#include "attest/named_bits.h"
#include "attest/verdict.h"

namespace tempo::attest {
namespace {

void check_tcb(const SnpTcb& tcb, const SnpTcbMinimum& minimum, const char* which) {
  const auto check = [&](const char* part, uint8_t found, uint8_t least) {
    demand(found >= least, kHardware, "sev-snp: {} TCB: {} is {}, the policy's minimum is {}", which, part, found,
           least);
  };
  check("fmc", tcb.fmc, minimum.fmc);
  check("bootloader", tcb.bootloader, minimum.bootloader);
  check("tee", tcb.tee, minimum.tee);
  check("snp", tcb.snp, minimum.snp);
  check("microcode", tcb.microcode, minimum.microcode);
}

bool is_provisional(const SnpVerified& v) {
  return v.current != v.committed || v.report.current_firmware != v.report.committed_firmware;
}

void check_hardware(const SnpVerified& v, const SnpPolicy& policy) {
  demand(policy.products.contains(v.product), kHardware, "sev-snp: product {} is not in the policy", v.product);
  demand(!v.is_vlek || policy.allow_vlek, kHardware, "sev-snp: signed by a VLEK, which the policy does not allow");
  demand(!policy.require_crl || v.has_crl, kHardware, "sev-snp: no revocation list of {} in the collateral", v.product);
  check_tcb(v.reported, policy.minimum_reported_tcb, "reported");
  check_tcb(v.committed, policy.minimum_committed_tcb, "committed");
  check_tcb(v.launch, policy.minimum_launch_tcb, "launch");
  demand(
      policy.allow_provisional_firmware || !is_provisional(v), kHardware,
      "sev-snp: current firmware is not the committed one, so it can be rolled back; the policy does not allow that");
  const uint64_t mitigations = policy.required_mitigations;
  demand((v.report.launch_mitigations & mitigations) == mitigations &&
             (v.report.current_mitigations & mitigations) == mitigations,
         kHardware, "sev-snp: mitigations {:#x} at launch and {:#x} now lack some of the policy's {:#x}",
         v.report.launch_mitigations, v.report.current_mitigations, mitigations);
  for (const std::string& name : policy.required_platform) {
    const bool is_met = name == kSmtDisabled ? (v.report.platform & kSnpPlatformSmt) == 0
                                             : names_in(kSnpPlatform, v.report.platform).contains(name);
    demand(is_met, kHardware, "sev-snp: the platform lacks {}, which the policy requires", name);
  }
}

void check_guest_policy(uint64_t guest, const SnpPolicy& policy) {
  demand((guest & kSnpPolicyDebug) == 0, kConfiguration, "sev-snp: debugging is allowed by the guest's policy");
  uint64_t known = kSnpPolicyAbi | kSnpPolicyReservedOne;
  for (const NamedBit& bit : kSnpWeakening) known |= bit.bit;
  for (const NamedBit& bit : kSnpHardening) known |= bit.bit;
  demand((guest & ~known) == 0 && (guest & kSnpPolicyReservedOne) != 0, kConfiguration,
         "sev-snp: guest policy {:#x} has bits that are not known here", guest);
  for (const std::string& name : names_in(kSnpWeakening, guest))
    demand(policy.allowed_guest_policy.contains(name), kConfiguration,
           "sev-snp: the guest's policy allows {}, the client's does not", name);
  const auto hardening = names_in(kSnpHardening, guest);
  for (const std::string& name : policy.required_guest_policy)
    demand(hardening.contains(name), kConfiguration,
           "sev-snp: the guest's policy lacks {}, which the client's requires", name);
}

void check_guest(const SnpVerified& v, const SnpPolicy& policy) {
  const SnpReport& report = v.report;
  check_guest_policy(report.guest_policy, policy);
  demand(report.vmpl <= policy.maximum_vmpl, kConfiguration, "sev-snp: VMPL {}, the policy's maximum is {}",
         report.vmpl, policy.maximum_vmpl);
  demand(is_listed(report.measurement, policy.measurements), kExecutables,
         "sev-snp: measurement {} is not in the policy", to_hex(report.measurement));
  demand(is_allowed(report.host_data, policy.host_data), kConfiguration, "sev-snp: host_data {} is not in the policy",
         to_hex(report.host_data));
  demand(report.guest_svn >= policy.minimum_guest_svn, kExecutables,
         "sev-snp: guest SVN {}, the policy's minimum is {}", report.guest_svn, policy.minimum_guest_svn);
  const auto check_listed = [](const auto& value, const auto& list, const char* what) {
    demand(list.empty() || is_listed(value, list), kExecutables, "sev-snp: {} {} is not in the policy", what,
           to_hex(value));
  };
  check_listed(report.id_key_digest, policy.id_keys, "id key");
  check_listed(report.author_key_digest, policy.author_keys, "author key");
  check_listed(report.family_id, policy.family_ids, "family id");
  check_listed(report.image_id, policy.image_ids, "image id");
}

SnpTcbMinimum minimum_of(const SnpTcb& tcb) { return {tcb.fmc, tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode}; }

Json json_of(const SnpFirmware& firmware) {
  return fmt::format("{}.{}.{}", firmware.major, firmware.minor, firmware.build);
}

}  // namespace

void check_policy(const SnpVerified& verified, const SnpPolicy& policy) {
  check_hardware(verified, policy);
  if (!policy.chip_ids.empty()) {
    demand(!is_zero(verified.report.chip_id), kInstanceIdentity,
           "sev-snp: the platform hides its chip id, the policy lists some");
    demand(is_listed(verified.report.chip_id, policy.chip_ids), kInstanceIdentity,
           "sev-snp: chip id is not in the policy");
  }
  check_guest(verified, policy);
}

SnpPolicy snp_policy_from(const SnpVerified& v) {
  SnpPolicy policy;
  policy.measurements = {v.report.measurement};
  policy.minimum_reported_tcb = minimum_of(v.reported);
  policy.minimum_committed_tcb = minimum_of(v.committed);
  policy.minimum_launch_tcb = minimum_of(v.launch);
  policy.products = {v.product};
  policy.maximum_vmpl = v.report.vmpl;
  if (!is_zero(v.report.host_data)) policy.host_data.values = {v.report.host_data};
  policy.allow_vlek = v.is_vlek;
  policy.allow_provisional_firmware = is_provisional(v);
  policy.allowed_guest_policy = names_in(kSnpWeakening, v.report.guest_policy);
  policy.required_guest_policy = names_in(kSnpHardening, v.report.guest_policy);
  policy.required_platform = names_in(kSnpPlatform, v.report.platform);
  if ((v.report.platform & kSnpPlatformSmt) == 0) policy.required_platform.emplace(kSmtDisabled);
  policy.required_mitigations = v.report.launch_mitigations & v.report.current_mitigations;
  policy.minimum_guest_svn = v.report.guest_svn;
  if (!is_zero(v.report.id_key_digest)) policy.id_keys = {v.report.id_key_digest};
  if (!is_zero(v.report.author_key_digest)) policy.author_keys = {v.report.author_key_digest};
  policy.require_crl = v.has_crl;
  check_policy(v, policy);
  return policy;
}

Json claims_of(const SnpReport& report) {
  Json claims = {{"version", report.version},
                 {"guest_svn", report.guest_svn},
                 {"guest_policy", fmt::format("{:#x}", report.guest_policy)},
                 {"debug", (report.guest_policy & kSnpPolicyDebug) != 0},
                 {"vmpl", report.vmpl},
                 {"signing_key", report.signing_key() == 0 ? "vcek" : "vlek"},
                 {"platform_info", fmt::format("{:#x}", report.platform)},
                 {"measurement", to_hex(report.measurement)},
                 {"report_data", to_hex(report.report_data)},
                 {"host_data", to_hex(report.host_data)},
                 {"family_id", to_hex(report.family_id)},
                 {"image_id", to_hex(report.image_id)},
                 {"id_key_digest", to_hex(report.id_key_digest)},
                 {"author_key_digest", to_hex(report.author_key_digest)},
                 {"chip_id", to_hex(report.chip_id)},
                 {"current_firmware", json_of(report.current_firmware)},
                 {"committed_firmware", json_of(report.committed_firmware)}};
  if (report.version >= 3)
    claims["cpuid"] = fmt::format("{:02x}{:02x}{:02x}", report.family, report.model, report.stepping);
  if (report.version >= 5) {
    claims["launch_mitigations"] = fmt::format("{:#x}", report.launch_mitigations);
    claims["current_mitigations"] = fmt::format("{:#x}", report.current_mitigations);
  }
  return claims;
}

}  // namespace tempo::attest
