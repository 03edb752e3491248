/// Quotes of Intel's quoting enclaves: SGX version 3, TDX versions 4 and 5 (Intel SGX DCAP ECDSA quote library API, and
/// Intel TDX DCAP quoting library API, "Quote format").
#pragma once

#include <optional>
#include <variant>

#include "attest/types.h"

namespace tempo::attest {

/// An SGX REPORT body: 384 bytes.
struct EnclaveReport {
  Digest16 cpu_svn{}, attributes{}, isv_ext_product_id{}, isv_family_id{};
  uint32_t misc_select = 0;
  Digest32 mrenclave{}, mrsigner{};
  Digest64 config_id{};
  uint16_t product_id = 0, svn = 0, config_svn = 0;
  ReportData report_data{};
};

/// A TD REPORT body of TDX 1.0 (584 bytes) or 1.5 (648).
struct TdReport {
  Digest16 tee_tcb_svn{};
  Digest48 mr_seam{}, mr_signer_seam{};
  uint64_t seam_attributes = 0, td_attributes = 0, xfam = 0;
  Digest48 mrtd{}, mr_config_id{}, mr_owner{}, mr_owner_config{};
  std::array<Digest48, 4> rtmr{};
  ReportData report_data{};
  bool is_tdx15 = false;
  Digest16 tee_tcb_svn2{};   // 1.5 only
  Digest48 mr_service_td{};  // 1.5 only
};

struct Quote {
  uint16_t version = 0;
  std::variant<EnclaveReport, TdReport> body;
  Bytes signed_part;
  Digest64 signature{};        // r | s, big-endian
  Digest64 attestation_key{};  // x | y
  Bytes qe_report_bytes;       // 384
  EnclaveReport qe_report;
  Digest64 qe_signature{};
  Bytes qe_auth_data;
  std::string pck_chain;  // PEM, leaf first

  [[nodiscard]] bool is_tdx() const { return std::holds_alternative<TdReport>(body); }
  [[nodiscard]] const EnclaveReport& enclave() const { return std::get<EnclaveReport>(body); }
  [[nodiscard]] const TdReport& td() const { return std::get<TdReport>(body); }
  [[nodiscard]] const ReportData& report_data() const { return is_tdx() ? td().report_data : enclave().report_data; }
};

/// Bytes after the signed structure are ignored: nobody signed them. @throws InputError for anything that is no such
/// quote: versions, key types, quoting enclaves and certification data that are not known here among them.
Quote parse_quote(ByteView bytes);

}  // namespace tempo::attest
