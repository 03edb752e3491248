#include "attest/synthetic_snp.h"

#include <algorithm>

namespace tempo::testing {

using namespace tempo::attest;

namespace {

UniqueX509 shared(const UniqueX509& certificate) {
  X509_up_ref(certificate.get());
  return UniqueX509(certificate.get());
}

}  // namespace

SnpRawTcb SnpSpec::tcb(uint8_t bootloader, uint8_t tee, uint8_t snp, uint8_t microcode) {
  return {std::byte{bootloader}, std::byte{tee}, {}, {}, {}, {}, std::byte{snp}, std::byte{microcode}};
}
SnpRawTcb SnpSpec::turin_tcb(uint8_t fmc, uint8_t bootloader, uint8_t tee, uint8_t snp, uint8_t microcode) {
  return {std::byte{fmc}, std::byte{bootloader}, std::byte{tee}, std::byte{snp}, {}, {}, {}, std::byte{microcode}};
}

std::vector<Extension> endorsement(const EndorsementSpec& spec) {
  const std::string base = "1.3.6.1.4.1.3704.1.";
  std::vector<Extension> list = {{base + "2", der(22, std::as_bytes(std::span("Test", 4)))},
                                 {base + "3.1", der_integer(spec.bootloader)},
                                 {base + "3.2", der_integer(spec.tee)},
                                 {base + "3.3", der_integer(spec.snp)},
                                 {base + "3.8", der_integer(spec.microcode)}};
  if (spec.fmc) list.push_back({base + "3.9", der_integer(*spec.fmc)});
  if (spec.hwid) list.push_back({base + "4", *spec.hwid});
  if (!spec.csp_id.empty())
    list.push_back({base + "5", der(22, std::as_bytes(std::span(spec.csp_id.data(), spec.csp_id.size())))});
  return list;
}

SyntheticAmd::SyntheticAmd(const std::string& name, const std::string& suffix, bool has_fmc)
    : ark("ARK-" + suffix),
      ask("SEV-" + suffix),
      asvk("SEV-VLEK-" + suffix),
      chip("chip"),
      name_(name),
      suffix_(suffix),
      has_fmc_(has_fmc),
      ark_certificate_(ark.self_signed()),
      ask_certificate_(ark.certify({.name = "SEV-" + suffix, .is_ca = true}, ask.key())),
      asvk_certificate_(ark.certify({.name = "SEV-VLEK-" + suffix, .is_ca = true}, asvk.key())) {}

VendorRoots SyntheticAmd::roots() const {
  VendorRoots roots;
  roots.amd.push_back(
      {name_, suffix_, has_fmc_, shared(ark_certificate_), shared(ask_certificate_), shared(asvk_certificate_)});
  return roots;
}

UniqueX509 SyntheticAmd::vcek(const EndorsementSpec& spec) const {
  return ask.certify({.name = "SEV-VCEK", .extensions = endorsement(spec)}, chip.key());
}
UniqueX509 SyntheticAmd::vlek(const EndorsementSpec& spec) const {
  return asvk.certify({.name = "SEV-VLEK", .extensions = endorsement(spec)}, chip.key());
}

Evidence SyntheticAmd::evidence(const SnpSpec& spec, const EndorsementSpec& endorsed) const {
  const bool is_vlek = ((spec.key_flags >> 2U) & 7U) == 1;
  Evidence evidence;
  evidence.tee = Tee::kSevSnp;
  evidence.report = snp_report(spec, chip);
  evidence.certificates = {to_der((is_vlek ? vlek(endorsed) : vcek(endorsed)).get())};
  return evidence;
}

Bytes snp_report(const SnpSpec& spec, const SyntheticKey& key) {
  Bytes out(kSnpReportBytes);
  put_little_endian(out, 0x00, spec.version, 4);
  put_little_endian(out, 0x04, spec.guest_svn, 4);
  put_little_endian(out, 0x08, spec.guest_policy, 8);
  put(out, 0x10, spec.family_id);
  put(out, 0x20, spec.image_id);
  put_little_endian(out, 0x30, spec.vmpl, 4);
  put_little_endian(out, 0x34, spec.algorithm, 4);
  put(out, 0x38, spec.current);
  put_little_endian(out, 0x40, spec.platform, 8);
  put_little_endian(out, 0x48, spec.key_flags, 4);
  put(out, 0x50, spec.report_data);
  put(out, 0x90, spec.measurement);
  put(out, 0xC0, spec.host_data);
  put(out, 0xE0, spec.id_key);
  put(out, 0x110, spec.author_key);
  put(out, 0x180, spec.reported);
  if (spec.version >= 3) {
    put_little_endian(out, 0x188, spec.family, 1);
    put_little_endian(out, 0x189, spec.model, 1);
  }
  put(out, 0x1A0, spec.chip_id);
  put(out, 0x1E0, spec.committed);
  put_little_endian(out, 0x1E8, spec.current_firmware, 4);
  put_little_endian(out, 0x1EC, spec.committed_firmware, 4);
  put(out, 0x1F0, spec.launch);
  put_little_endian(out, 0x1F8, spec.launch_mitigations, 8);
  put_little_endian(out, 0x200, spec.current_mitigations, 8);
  Bytes signature = key.sign(ByteView(out).first(kSnpSignedBytes));
  std::reverse(signature.begin(), signature.begin() + 48);
  std::reverse(signature.begin() + 48, signature.end());
  put(out, 0x2A0, ByteView(signature).first(48));
  put(out, 0x2A0 + 72, ByteView(signature).subspan(48));
  return out;
}

}  // namespace tempo::testing
