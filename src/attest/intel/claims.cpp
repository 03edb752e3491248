// What an EAR says of a quote.
#include <fmt/format.h>

#include "attest/intel/policy.h"
#include "attest/named_bits.h"

namespace tempo::attest {
namespace {

Json claims_of_td(const TdReport& td) {
  Json claims = {{"tee_tcb_svn", to_hex(td.tee_tcb_svn)},
                 {"mr_seam", to_hex(td.mr_seam)},
                 {"td_attributes", fmt::format("{:#x}", td.td_attributes)},
                 {"debug", (td.td_attributes & kTdDebug) != 0},
                 {"xfam", fmt::format("{:#x}", td.xfam)},
                 {"mrtd", to_hex(td.mrtd)},
                 {"mr_config_id", to_hex(td.mr_config_id)},
                 {"mr_owner", to_hex(td.mr_owner)},
                 {"mr_owner_config", to_hex(td.mr_owner_config)},
                 {"report_data", to_hex(td.report_data)}};
  for (size_t i = 0; i < td.rtmr.size(); ++i) claims[fmt::format("rtmr{}", i)] = to_hex(td.rtmr[i]);
  if (td.is_tdx15) {
    claims["tee_tcb_svn2"] = to_hex(td.tee_tcb_svn2);
    claims["mr_service_td"] = to_hex(td.mr_service_td);
  }
  return claims;
}

Json claims_of_enclave(const EnclaveReport& enclave) {
  return {{"cpu_svn", to_hex(enclave.cpu_svn)},
          {"attributes", to_hex(enclave.attributes)},
          {"debug", (std::to_integer<uint64_t>(enclave.attributes[0]) & kSgxDebug) != 0},
          {"misc_select", enclave.misc_select},
          {"mrenclave", to_hex(enclave.mrenclave)},
          {"mrsigner", to_hex(enclave.mrsigner)},
          {"product_id", enclave.product_id},
          {"svn", enclave.svn},
          {"config_id", to_hex(enclave.config_id)},
          {"config_svn", enclave.config_svn},
          {"report_data", to_hex(enclave.report_data)}};
}

}  // namespace

Json claims_of(const Quote& quote) {
  Json claims = quote.is_tdx() ? claims_of_td(quote.td()) : claims_of_enclave(quote.enclave());
  claims["quote_version"] = quote.version;
  claims["qe_svn"] = quote.qe_report.svn;
  return claims;
}

Json claims_of(const PckFacts& pck) {
  Json claims = {{"fmspc", to_hex(pck.fmspc)},
                 {"pce_id", to_hex(pck.pce_id)},
                 {"pce_svn", pck.pce_svn},
                 {"tcb_components", to_hex(std::as_bytes(std::span(pck.components)))}};
  if (pck.platform_instance_id) claims["platform_instance_id"] = to_hex(*pck.platform_instance_id);
  return claims;
}

Json claims_of(const PlatformVerified& platform) {
  Json claims = {{"tcb_status", name_of(platform.tcb.merged)},
                 {"platform_tcb_status", name_of(platform.tcb.platform)},
                 {"qe_tcb_status", name_of(platform.tcb.qe)},
                 {"tcb_date", to_text(platform.tcb.date)},
                 {"tcb_evaluation_data_number", platform.evaluation_number},
                 {"advisories", platform.tcb.advisories}};
  if (platform.tcb.module) claims["tdx_module_tcb_status"] = name_of(*platform.tcb.module);
  return claims;
}

}  // namespace tempo::attest
