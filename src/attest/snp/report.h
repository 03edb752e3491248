/// SEV-SNP's attestation report, versions 2 to 5 (AMD 56860, "ATTESTATION_REPORT").
#pragma once

#include <optional>

#include "attest/types.h"

namespace tempo::attest {

constexpr size_t kSnpReportBytes = 0x4A0, kSnpSignedBytes = 0x2A0;

/// Security versions as the report has them. Their order depends on the processor.
using SnpRawTcb = std::array<std::byte, 8>;

/// Security versions of the parts of AMD's firmware.
struct SnpTcb {
  uint8_t fmc = 0;  // Turin and later; else 0
  uint8_t bootloader = 0, tee = 0, snp = 0, microcode = 0;
  bool operator==(const SnpTcb&) const = default;
};
/// @param has_fmc Turin's order: fmc, bootloader, tee, snp, 3 reserved, microcode; else bootloader, tee, 4 reserved,
/// snp, microcode. @throws AttestationError if a reserved byte is not 0.
SnpTcb decode_tcb(const SnpRawTcb& raw, bool has_fmc, std::string_view what);
std::string to_text(const SnpTcb& tcb);

struct SnpFirmware {
  uint8_t major = 0, minor = 0, build = 0;
  bool operator==(const SnpFirmware&) const = default;
};

enum class SnpSigningKey : uint32_t { kVcek = 0, kVlek = 1 };

struct SnpReport {
  uint32_t version = 0, guest_svn = 0, vmpl = 0, signature_algorithm = 0;
  uint64_t guest_policy = 0, platform = 0;
  uint32_t key_flags = 0;  // bit 0: author key, bit 1: chip key masked, bits 2 to 4: signing key
  Digest16 family_id{}, image_id{};
  ReportData report_data{};
  Digest48 measurement{}, id_key_digest{}, author_key_digest{};
  Digest32 host_data{}, report_id{}, report_id_ma{};
  SnpRawTcb current_tcb{}, reported_tcb{}, committed_tcb{}, launch_tcb{};
  uint8_t family = 0, model = 0, stepping = 0;  // version 3 and later
  Digest64 chip_id{};
  SnpFirmware current_firmware, committed_firmware;
  uint64_t launch_mitigations = 0, current_mitigations = 0;  // version 5
  Bytes signed_part;
  Digest48 signature_r{}, signature_s{};  // big-endian

  [[nodiscard]] uint32_t signing_key() const { return (key_flags >> 2U) & 7U; }
};

/// @throws InputError unless it is one report of 1184 bytes, of a version known here, with a well-formed signature
/// field.
SnpReport parse_snp_report(ByteView bytes);

}  // namespace tempo::attest
