#include "attest/snp/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr uint32_t kFirstVersion = 2, kLastVersion = 5;
constexpr size_t kSignatureNumberBytes = 72;

template <size_t kBytes>
void read(ByteReader& reader, std::array<std::byte, kBytes>& out) {
  const ByteView bytes = reader.bytes(kBytes);
  std::copy(bytes.begin(), bytes.end(), out.begin());
}

SnpFirmware read_firmware(ByteReader& reader) {
  SnpFirmware firmware;
  firmware.build = reader.u8();
  firmware.minor = reader.u8();
  firmware.major = reader.u8();
  reader.u8();  // reserved
  return firmware;
}

/// 72 little-endian bytes of a number that P-384 bounds to 48.
Digest48 read_signature_number(ByteReader& reader) {
  const ByteView bytes = reader.bytes(kSignatureNumberBytes);
  const ByteView low = bytes.first(48);
  if (std::any_of(bytes.begin() + 48, bytes.end(), [](std::byte byte) { return byte != std::byte{0}; }))
    throw InputError("sev-snp report: signature over 384 bits");
  Digest48 number{};
  std::reverse_copy(low.begin(), low.end(), number.begin());
  return number;
}

/// Offsets 0x180 to 0x2A0.
void read_platform_part(ByteReader& reader, SnpReport& report) {
  read(reader, report.reported_tcb);
  report.family = reader.u8();
  report.model = reader.u8();
  report.stepping = reader.u8();
  reader.bytes(21);
  read(reader, report.chip_id);
  read(reader, report.committed_tcb);
  report.current_firmware = read_firmware(reader);
  report.committed_firmware = read_firmware(reader);
  read(reader, report.launch_tcb);
  report.launch_mitigations = reader.u64();
  report.current_mitigations = reader.u64();
  reader.bytes(kSnpSignedBytes - reader.offset());
}

}  // namespace

SnpTcb decode_tcb(const SnpRawTcb& raw, bool has_fmc, std::string_view what) {
  const auto at = [&](size_t i) { return std::to_integer<uint8_t>(raw[i]); };
  const size_t first_reserved = has_fmc ? 4 : 2, reserved = has_fmc ? 3 : 4;
  for (size_t i = first_reserved; i < first_reserved + reserved; ++i)
    if (at(i) != 0) throw AttestationError(fmt::format("sev-snp: {} TCB has a part that is not known here", what));
  if (has_fmc) return {at(0), at(1), at(2), at(3), at(7)};
  return {0, at(0), at(1), at(6), at(7)};
}

std::string to_text(const SnpTcb& tcb) {
  return fmt::format("fmc {} bootloader {} tee {} snp {} microcode {}", tcb.fmc, tcb.bootloader, tcb.tee, tcb.snp,
                     tcb.microcode);
}

SnpReport parse_snp_report(ByteView bytes) {
  if (bytes.size() != kSnpReportBytes)
    throw InputError(fmt::format("sev-snp report: {} bytes, expected {}", bytes.size(), kSnpReportBytes));
  ByteReader reader(bytes, "sev-snp report");
  SnpReport report;
  report.version = reader.u32();
  if (report.version < kFirstVersion || report.version > kLastVersion)
    throw InputError(
        fmt::format("sev-snp report: version {}, expected {} to {}", report.version, kFirstVersion, kLastVersion));
  report.guest_svn = reader.u32();
  report.guest_policy = reader.u64();
  read(reader, report.family_id);
  read(reader, report.image_id);
  report.vmpl = reader.u32();
  report.signature_algorithm = reader.u32();
  read(reader, report.current_tcb);
  report.platform = reader.u64();
  report.key_flags = reader.u32();
  reader.u32();  // reserved
  read(reader, report.report_data);
  read(reader, report.measurement);
  read(reader, report.host_data);
  read(reader, report.id_key_digest);
  read(reader, report.author_key_digest);
  read(reader, report.report_id);
  read(reader, report.report_id_ma);
  read_platform_part(reader, report);
  report.signed_part.assign(bytes.begin(), bytes.begin() + kSnpSignedBytes);
  report.signature_r = read_signature_number(reader);
  report.signature_s = read_signature_number(reader);
  return report;
}

}  // namespace tempo::attest
