/// Intel's signed statements: which security versions of a kind of platform, of its TDX module and of a quoting enclave
/// are current (Intel SGX and TDX provisioning certification service API, version 4).
#pragma once

#include <set>
#include <vector>

#include "attest/collateral.h"
#include "attest/intel/pck.h"
#include "attest/intel/quote.h"

namespace tempo::attest {

/// From good to bad; `converge` may only go down.
enum class TcbStatus {
  kUpToDate,
  kSwHardeningNeeded,
  kConfigurationNeeded,
  kConfigurationAndSwHardeningNeeded,
  kOutOfDate,
  kOutOfDateConfigurationNeeded,
  kRevoked
};
std::string_view name_of(TcbStatus status);
/// None for a name that is not Intel's.
std::optional<TcbStatus> tcb_status_of_name(std::string_view name);

struct TcbLevel {
  std::array<uint8_t, 16> sgx_components{}, tdx_components{};
  uint16_t pce_svn = 0;
  TcbStatus status = TcbStatus::kRevoked;
  UtcTime date{};
  std::set<std::string> advisories;
};

struct SvnLevel {
  uint16_t svn = 0;
  TcbStatus status = TcbStatus::kRevoked;
  UtcTime date{};
  std::set<std::string> advisories;
};

/// Who may have made a TDX module of one major version.
struct TdxModule {
  std::string id;  // "TDX_01"; empty for version 0
  Digest48 mr_signer{};
  uint64_t attributes = 0, attributes_mask = 0;
  std::vector<SvnLevel> levels;
};

/// What both statements have.
struct StatementHead {
  std::string id;  // "SGX", "TDX"; "QE", "TD_QE"
  UtcTime issued{}, next{};
  uint32_t evaluation_number = 0;
};

struct TcbInfo : StatementHead {
  Fmspc fmspc{};
  std::array<std::byte, 2> pce_id{};
  TdxModule module;                // TDX only
  std::vector<TdxModule> modules;  // of TDX 1.5 on
  std::vector<TcbLevel> levels;    // best first
};

struct QeIdentity : StatementHead {
  uint32_t misc_select = 0, misc_select_mask = 0;
  Digest16 attributes{}, attributes_mask{};
  Digest32 mrsigner{};
  uint16_t product_id = 0;
  std::vector<SvnLevel> levels;
};

/// @throws InputError for anything but TCB info of version 3 / QE identity of version 2. Signatures are not looked at.
TcbInfo parse_tcb_info(std::string_view text);
QeIdentity parse_qe_identity(std::string_view text);

/// The platform's level, and what the module and the quoting enclave make of it.
struct TcbVerdict {
  TcbStatus platform = TcbStatus::kRevoked, qe = TcbStatus::kRevoked;
  std::optional<TcbStatus> module;  // TDX 1.5
  TcbStatus merged = TcbStatus::kRevoked;
  std::set<std::string> advisories;
  UtcTime date{};  // of the platform's level
};

/// Intel's algorithm: the first level that the platform reaches in every component. @param td null for SGX.
/// @throws AttestationError if the statements are of another platform, module or quoting enclave, or if no level is
/// reached.
TcbVerdict match_tcb(const TcbInfo& info, const QeIdentity& identity, const PckFacts& pck, const EnclaveReport& qe,
                     const TdReport* td);

}  // namespace tempo::attest
