/// SEV-SNP machines that do not exist.
#pragma once

#include <optional>

#include "attest/collateral.h"
#include "attest/evidence.h"
#include "attest/snp/report.h"
#include "attest/synthetic.h"
#include "attest/vendor_roots.h"

namespace tempo::testing {

/// Fields as the layout has them; what a test does not set is that of a good production guest.
struct SnpSpec {
  uint32_t version = 3, guest_svn = 5, vmpl = 0, algorithm = 1, key_flags = 0;
  uint64_t guest_policy = 0x30000, platform = 0x25;
  attest::SnpRawTcb current = tcb(4, 0, 24, 0xDB), reported = current, committed = current, launch = current;
  uint8_t family = 0x19, model = 0x01;
  uint64_t launch_mitigations = 0, current_mitigations = 0;
  uint32_t current_firmware = 0x01371D, committed_firmware = 0x01371D;  // major, minor, build from the top
  Bytes report_data = Bytes(64, std::byte{0x11}), measurement = Bytes(48, std::byte{0x22}),
        host_data = Bytes(32, std::byte{0}), id_key = Bytes(48, std::byte{0}), author_key = Bytes(48, std::byte{0}),
        family_id = Bytes(16, std::byte{0}), image_id = Bytes(16, std::byte{0}), chip_id = Bytes(64, std::byte{0x33});

  static attest::SnpRawTcb tcb(uint8_t bootloader, uint8_t tee, uint8_t snp, uint8_t microcode);
  static attest::SnpRawTcb turin_tcb(uint8_t fmc, uint8_t bootloader, uint8_t tee, uint8_t snp, uint8_t microcode);
};

/// Extensions of a VCEK or VLEK.
struct EndorsementSpec {
  uint8_t bootloader = 4, tee = 0, snp = 24, microcode = 0xDB;
  std::optional<uint8_t> fmc = {};
  std::optional<Bytes> hwid = Bytes(64, std::byte{0x33});
  std::string csp_id = {};
};
std::vector<Extension> endorsement(const EndorsementSpec& spec);

/// One product's root, issuers, and a machine under them.
class SyntheticAmd {
 public:
  /// @param name, suffix e.g. "milan", "Milan".
  explicit SyntheticAmd(const std::string& name = "milan", const std::string& suffix = "Milan", bool has_fmc = false);

  /// Only this product, under this root.
  [[nodiscard]] attest::VendorRoots roots() const;
  [[nodiscard]] attest::UniqueX509 vcek(const EndorsementSpec& spec = {}) const;
  [[nodiscard]] attest::UniqueX509 vlek(const EndorsementSpec& spec) const;
  /// A report signed with the machine's key, and its VCEK or VLEK.
  [[nodiscard]] attest::Evidence evidence(const SnpSpec& spec = {}, const EndorsementSpec& endorsed = {}) const;

  SyntheticKey ark, ask, asvk, chip;

 private:
  std::string name_, suffix_;
  bool has_fmc_;
  attest::UniqueX509 ark_certificate_, ask_certificate_, asvk_certificate_;
};

/// The report alone, signed with `key`.
Bytes snp_report(const SnpSpec& spec, const SyntheticKey& key);

}  // namespace tempo::testing
