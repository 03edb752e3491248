// A policy as JSON, each way: every field is described once, below, and read or written by what is passed in.
#include "attest/policy.h"

#include <fmt/format.h>

#include "attest/intel/tcb_info.h"
#include "attest/named_bits.h"
#include "attest/policy_fields.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

template <typename Bits>
Names names_of(const Bits& bits, std::initializer_list<std::string_view> more = {}) {
  Names names(more.begin(), more.end());
  for (const NamedBit& bit : bits) names.emplace(bit.name);
  return names;
}

const Names kProducts = {"milan", "genoa", "turin"};
const Names kWeakening = names_of(kSnpWeakening), kHardening = names_of(kSnpHardening),
            kPlatform = names_of(kSnpPlatform, {kSmtDisabled}), kTdAttributes = names_of(kTdAllowable, {kSeptVe}),
            kSgxAttributes = names_of(kSgxAllowable);

/// All but Revoked: nothing accepts that.
Names acceptable_statuses() {
  return {"UpToDate",
          "SWHardeningNeeded",
          "ConfigurationNeeded",
          "OutOfDate",
          "OutOfDateConfigurationNeeded",
          "ConfigurationAndSWHardeningNeeded"};
}
const Names kStatuses = acceptable_statuses();

template <typename Fields>
void describe(Fields& f, SnpTcbMinimum& tcb) {
  f.number("fmc", tcb.fmc);
  f.number("bootloader", tcb.bootloader, Presence::kRequired);
  f.number("tee", tcb.tee, Presence::kRequired);
  f.number("snp", tcb.snp, Presence::kRequired);
  f.number("microcode", tcb.microcode, Presence::kRequired);
}

template <typename Fields>
void describe(Fields& f, SnpPolicy& p) {
  f.digests("measurements", p.measurements, Presence::kRequired);
  f.names("products", p.products, &kProducts, Presence::kRequired);
  f.section("minimum_reported_tcb", p.minimum_reported_tcb, [](auto& g, auto& v) { describe(g, v); });
  f.section("minimum_committed_tcb", p.minimum_committed_tcb, [](auto& g, auto& v) { describe(g, v); });
  f.section("minimum_launch_tcb", p.minimum_launch_tcb, [](auto& g, auto& v) { describe(g, v); });
  f.number("maximum_vmpl", p.maximum_vmpl);
  f.allowed("host_data", p.host_data);
  f.boolean("allow_vlek", p.allow_vlek);
  f.boolean("allow_provisional_firmware", p.allow_provisional_firmware);
  f.names("allowed_guest_policy", p.allowed_guest_policy, &kWeakening);
  f.names("required_guest_policy", p.required_guest_policy, &kHardening);
  f.names("required_platform", p.required_platform, &kPlatform);
  f.number("required_mitigations", p.required_mitigations);
  f.number("minimum_guest_svn", p.minimum_guest_svn);
  f.digests("id_keys", p.id_keys);
  f.digests("author_keys", p.author_keys);
  f.digests("family_ids", p.family_ids);
  f.digests("image_ids", p.image_ids);
  f.digests("chip_ids", p.chip_ids);
  f.boolean("require_crl", p.require_crl);
}

template <typename Fields>
void describe(Fields& f, IntelTcbPolicy& p) {
  f.names("tcb_statuses", p.tcb_statuses, &kStatuses);
  f.names("advisories", p.advisories, nullptr);
  f.number("minimum_tcb_evaluation_data_number", p.minimum_tcb_evaluation_data_number);
  f.number("minimum_pce_svn", p.minimum_pce_svn);
  f.number("minimum_qe_svn", p.minimum_qe_svn);
  f.digest("minimum_tcb_components", p.minimum_tcb_components);
  f.digests("platform_instance_ids", p.platform_instance_ids);
}

template <typename Fields>
void describe(Fields& f, TdxPolicy& p) {
  f.digests("mrtd", p.mrtd, Presence::kRequired);
  f.allowed("rtmr0", p.rtmr[0]);
  f.allowed("rtmr1", p.rtmr[1]);
  f.allowed("rtmr2", p.rtmr[2]);
  f.allowed("rtmr3", p.rtmr[3]);
  f.allowed("mr_config_id", p.mr_config_id);
  f.allowed("mr_owner", p.mr_owner);
  f.allowed("mr_owner_config", p.mr_owner_config);
  f.allowed("mr_service_td", p.mr_service_td);
  f.digests("mr_seam", p.mr_seam);
  f.names("allowed_attributes", p.allowed_attributes, &kTdAttributes);
  f.digest("minimum_tee_tcb_svn", p.minimum_tee_tcb_svn);
  describe(f, p.tcb);
}

template <typename Fields>
void describe(Fields& f, SgxSigner& signer) {
  f.digest("mrsigner", signer.mrsigner, Presence::kRequired);
  f.number("product_id", signer.product_id, Presence::kRequired);
  f.number("minimum_svn", signer.minimum_svn, Presence::kRequired);
}

template <typename Fields>
void describe(Fields& f, SgxPolicy& p) {
  f.digests("mrenclave", p.mrenclave);
  f.sections("signers", p.signers, [](auto& g, auto& v) { describe(g, v); });
  f.names("allowed_attributes", p.allowed_attributes, &kSgxAttributes);
  f.allowed("config_id", p.config_id);
  f.number("minimum_config_svn", p.minimum_config_svn);
  describe(f, p.tcb);
}

template <typename Fields>
void describe(Fields& f, InsecureSimulatedPolicy& p) {
  f.digests("measurements", p.measurements, Presence::kRequired);
}

template <typename Fields>
void describe(Fields& f, Policy& p) {
  f.optional_section("sev-snp", p.sev_snp, [](auto& g, auto& v) { describe(g, v); });
  f.optional_section("tdx", p.tdx, [](auto& g, auto& v) { describe(g, v); });
  f.optional_section("sgx", p.sgx, [](auto& g, auto& v) { describe(g, v); });
  f.optional_section("insecure-simulated", p.insecure_simulated, [](auto& g, auto& v) { describe(g, v); });
  f.digests("config_hashes", p.config_hashes);
  f.optional_number("maximum_collateral_age_days", p.maximum_collateral_age_days);
  f.boolean("allow_unprotected", p.allow_unprotected);
}

}  // namespace

Policy parse_policy(ByteView bytes, const std::string& source) {
  if (bytes.size() > kMaxPolicyBytes)
    throw InputError(fmt::format("{}: {} bytes, expected at most {}", source, bytes.size(), kMaxPolicyBytes));
  const Json json = parse_json_object(as_text(bytes), source);
  JsonFields fields(json, source);
  if (const uint64_t version = fields.number("version", UINT32_MAX); version != 1)
    throw InputError(fmt::format("{}: policy of version {}, expected 1", source, version));
  Policy policy;
  PolicyReader reader(fields);
  describe(reader, policy);
  fields.refuse_others();
  if (!policy.sev_snp && !policy.tdx && !policy.sgx && !policy.insecure_simulated)
    throw InputError(fmt::format("{}: names no TEE, expected sev-snp, tdx or sgx", source));
  if (policy.sgx && policy.sgx->mrenclave.empty() && policy.sgx->signers.empty())
    throw InputError(fmt::format("{}: sgx: names no enclave, expected mrenclave or signers", source));
  return policy;
}

std::string to_json(const Policy& policy) {
  Policy copy = policy;
  PolicyWriter writer;
  describe(writer, copy);
  writer.json()["version"] = 1;
  return writer.json().dump(2) + "\n";
}

}  // namespace tempo::attest
