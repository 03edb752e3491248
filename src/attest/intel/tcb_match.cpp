// Intel's documented way from security versions to a status ("Get TCB info" and "Get QE identity" of the API's
// description).
#include <fmt/format.h>

#include <algorithm>

#include "attest/intel/tcb_info.h"
#include "attest/verdict.h"

namespace tempo::attest {
namespace {

/// TEE_TCB_SVN[0] is the module's version of security, [1] its major version: both have levels of their own from 1.5
/// on.
constexpr size_t kModuleSvn = 0, kModuleMajor = 1, kFirstOther = 2;

uint8_t svn_at(const Digest16& svn, size_t i) { return std::to_integer<uint8_t>(svn[i]); }

bool reaches(const TcbLevel& level, const PckFacts& pck, const TdReport* td) {
  for (size_t i = 0; i < level.sgx_components.size(); ++i)
    if (pck.components[i] < level.sgx_components[i]) return false;
  if (pck.pce_svn < level.pce_svn) return false;
  if (td == nullptr) return true;
  const size_t first = svn_at(td->tee_tcb_svn, kModuleMajor) == 0 ? 0 : kFirstOther;
  for (size_t i = first; i < level.tdx_components.size(); ++i)
    if (svn_at(td->tee_tcb_svn, i) < level.tdx_components[i]) return false;
  return true;
}

const SvnLevel* first_reached(const std::vector<SvnLevel>& levels, uint16_t svn) {
  const auto found =
      std::find_if(levels.begin(), levels.end(), [&](const SvnLevel& level) { return svn >= level.svn; });
  return found == levels.end() ? nullptr : &*found;
}

const TdxModule& find_module(const TcbInfo& info, const TdReport& td) {
  const uint8_t major = svn_at(td.tee_tcb_svn, kModuleMajor);
  if (major == 0) return info.module;
  const std::string id = fmt::format("TDX_{:02X}", major);
  const auto found =
      std::find_if(info.modules.begin(), info.modules.end(), [&](const TdxModule& module) { return module.id == id; });
  demand(found != info.modules.end(), kHardware, "tdx: TCB info knows no module {}", id);
  return *found;
}

/// @returns the module's own level; null for major version 0, whose level is part of the platform's.
const SvnLevel* check_module(const TcbInfo& info, const TdReport& td) {
  const TdxModule& module = find_module(info, td);
  demand(module.mr_signer == td.mr_signer_seam, kHardware, "tdx: module is signed by another than TCB info says");
  demand((td.seam_attributes & module.attributes_mask) == module.attributes, kHardware,
         "tdx: module has other attributes than TCB info says");
  if (module.id.empty()) return nullptr;
  const SvnLevel* level = first_reached(module.levels, svn_at(td.tee_tcb_svn, kModuleSvn));
  demand(level != nullptr, kHardware, "tdx: module {} of security version {} reaches no TCB level", module.id,
         svn_at(td.tee_tcb_svn, kModuleSvn));
  return level;
}

const SvnLevel& check_qe(const QeIdentity& identity, const EnclaveReport& qe, const char* tee) {
  demand((qe.misc_select & identity.misc_select_mask) == identity.misc_select, kHardware,
         "{}: quoting enclave has another MISCSELECT than its identity", tee);
  for (size_t i = 0; i < qe.attributes.size(); ++i)
    demand((qe.attributes[i] & identity.attributes_mask[i]) == identity.attributes[i], kHardware,
           "{}: quoting enclave has other attributes than its identity", tee);
  demand(qe.mrsigner == identity.mrsigner, kHardware, "{}: quoting enclave is signed by another than Intel", tee);
  demand(qe.product_id == identity.product_id, kHardware, "{}: quoting enclave is product {}, expected {}", tee,
         qe.product_id, identity.product_id);
  const SvnLevel* level = first_reached(identity.levels, qe.svn);
  demand(level != nullptr, kHardware, "{}: quoting enclave of security version {} reaches no TCB level", tee, qe.svn);
  return *level;
}

/// The platform's status, lowered by that of a part of it.
TcbStatus lowered(TcbStatus platform, TcbStatus part) {
  if (platform == TcbStatus::kRevoked || part == TcbStatus::kRevoked) return TcbStatus::kRevoked;
  if (part == TcbStatus::kUpToDate) return platform;
  // A part is only ever current, out of date or revoked; whatever else came would count as out of date.
  const bool needs_configuration = platform == TcbStatus::kConfigurationNeeded ||
                                   platform == TcbStatus::kConfigurationAndSwHardeningNeeded ||
                                   platform == TcbStatus::kOutOfDateConfigurationNeeded;
  return needs_configuration ? TcbStatus::kOutOfDateConfigurationNeeded : TcbStatus::kOutOfDate;
}

}  // namespace

TcbVerdict match_tcb(const TcbInfo& info, const QeIdentity& identity, const PckFacts& pck, const EnclaveReport& qe,
                     const TdReport* td) {
  const char* const tee = td == nullptr ? "sgx" : "tdx";
  demand(info.id == (td == nullptr ? "SGX" : "TDX"), kHardware, "{}: TCB info of {}", tee, info.id);
  demand(identity.id == (td == nullptr ? "QE" : "TD_QE"), kHardware, "{}: QE identity of {}", tee, identity.id);
  demand(info.fmspc == pck.fmspc && info.pce_id == pck.pce_id, kHardware,
         "{}: TCB info of platform {}, the PCK certificate's is {}", tee, to_hex(info.fmspc), to_hex(pck.fmspc));
  const SvnLevel* module = td == nullptr ? nullptr : check_module(info, *td);
  const SvnLevel& qe_level = check_qe(identity, qe, tee);
  const auto level =
      std::find_if(info.levels.begin(), info.levels.end(), [&](const TcbLevel& l) { return reaches(l, pck, td); });
  demand(level != info.levels.end(), kHardware, "{}: the platform reaches no TCB level of TCB info {}", tee,
         info.evaluation_number);

  TcbVerdict verdict{.platform = level->status,
                     .qe = qe_level.status,
                     .module = {},
                     .merged = level->status,
                     .advisories = level->advisories,
                     .date = level->date};
  const auto take_in = [&](const SvnLevel& part) {
    verdict.merged = lowered(verdict.merged, part.status);
    verdict.advisories.insert(part.advisories.begin(), part.advisories.end());
  };
  if (module != nullptr) {
    verdict.module = module->status;
    take_in(*module);
  }
  take_in(qe_level);
  return verdict;
}

}  // namespace tempo::attest
