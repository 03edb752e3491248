/// SGX and TDX machines that do not exist.
#pragma once

#include <functional>
#include <optional>

#include "attest/collateral.h"
#include "attest/crypto/json.h"
#include "attest/evidence.h"
#include "attest/synthetic.h"
#include "attest/vendor_roots.h"

namespace tempo::testing {

/// The SGX extension of a PCK certificate.
struct PckSpec {
  std::array<uint8_t, 16> components = {5, 5, 5, 5, 5, 5, 5, 5};
  uint64_t pce_svn = 11;
  Bytes fmspc = Bytes(6, std::byte{0x0F}), pce_id = Bytes(2, std::byte{0});
  std::optional<Bytes> platform_instance_id = Bytes(16, std::byte{0x77});
};
Bytes pck_extension(const PckSpec& spec);

// Where things are in the bodies, for `QuoteSpec::edit`.
inline constexpr size_t kTdSvn = 0, kTdMrSeam = 16, kTdMrSigner = 64, kTdSeamAttributes = 112, kTdAttributes = 120,
                        kTdMrtd = 136, kTdConfigId = 184, kTdOwner = 232, kTdOwnerConfig = 280, kTdRtmr0 = 328,
                        kTdReportData = 520, kTdServiceTd = 600;
inline constexpr size_t kSgxMisc = 16, kSgxAttributes = 48, kSgxMrenclave = 64, kSgxMrsigner = 128, kSgxConfigId = 192,
                        kSgxProductId = 256, kSgxSvn = 258, kSgxConfigSvn = 260, kSgxReportData = 320;

struct QuoteSpec {
  uint16_t version = 4;                      // 3: SGX; 4: TDX 1.0 body; 5: `body_type`
  uint16_t body_type = 3;                    // of version 5
  std::function<void(Bytes&)> edit = {};     // of the body, before it is signed
  std::function<void(Bytes&)> edit_qe = {};  // of the quoting enclave's report, before it is signed
  PckSpec pck = {};
  bool is_processor_ca = false;
};

/// Intel's authorities, and a machine under them.
class SyntheticIntel {
 public:
  SyntheticIntel();

  [[nodiscard]] attest::VendorRoots roots() const;
  [[nodiscard]] Bytes quote(const QuoteSpec& spec = {}) const;
  [[nodiscard]] attest::Evidence evidence(const QuoteSpec& spec = {}) const;
  [[nodiscard]] attest::UniqueX509 pck(const QuoteSpec& spec = {}) const;

  /// Up to date, valid from 2025-06-15 to 2025-07-15, of evaluation data number 17.
  [[nodiscard]] static attest::Json tcb_info(bool is_tdx);
  [[nodiscard]] static attest::Json qe_identity(bool is_tdx);
  [[nodiscard]] attest::SignedJson signed_json(const std::string& text) const;
  /// All that verifies `quote`, for either TEE.
  [[nodiscard]] attest::Collateral collateral() const;
  [[nodiscard]] attest::Collateral collateral_with(const attest::Json& tcb_info, const attest::Json& qe_identity) const;

  SyntheticKey root, platform_ca, processor_ca, pck_key, tcb_signing, attestation;
  attest::UniqueX509 root_certificate, platform_certificate, processor_certificate, tcb_certificate;
};

}  // namespace tempo::testing
