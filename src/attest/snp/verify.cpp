#include "attest/snp/verify.h"

#include <fmt/format.h>

#include <algorithm>

#include "attest/runtime_data.h"
#include "attest/verdict.h"
#include "base/byte_reader.h"

namespace tempo::attest {
namespace {

constexpr uint32_t kEcdsaP384 = 1, kKnownKeyFlags = 0x1F, kChipKeyMasked = 2;

/// All certificates that came along, parsed. What is none is passed over: it may belong to another TEE.
std::vector<UniqueX509> parse_all(const Evidence& evidence, const Collateral& collateral) {
  std::vector<UniqueX509> parsed;
  for (const auto* source : {&evidence.certificates, &collateral.certificates})
    for (const Bytes& der : *source) try {
        parsed.push_back(parse_certificate(der, "sev-snp: certificate"));
      } catch (const AttestationError&) {
      }
  return parsed;
}

bool signs(X509* leaf, const SnpReport& report) {
  EVP_PKEY* key = X509_get0_pubkey(leaf);
  return key != nullptr &&
         ecdsa_verifies(key, Curve::kP384WithSha384, report.signed_part, report.signature_r, report.signature_s);
}

/// The certificate of the key that signed, by trying: a bundle may hold those of many machines.
X509* find_signer(const std::vector<UniqueX509>& certificates, const SnpReport& report, bool is_vlek) {
  const char* const name = is_vlek ? "SEV-VLEK" : "SEV-VCEK";
  bool is_any = false;
  for (const UniqueX509& certificate : certificates) {
    if (subject_of(certificate.get()) != name) continue;
    is_any = true;
    if (signs(certificate.get(), report)) return certificate.get();
  }
  demand(is_any, kHardware, "sev-snp: no {} came with the evidence or the collateral", is_vlek ? "VLEK" : "VCEK");
  throw Refused(kHardware, fmt::format("sev-snp: the report's signature does not verify with any {} at hand",
                                       is_vlek ? "VLEK" : "VCEK"));
}

const AmdProduct& product_of(const VendorRoots& roots, const SnpReport& report, const X509* leaf) {
  const std::string issuer = issuer_of(leaf);
  const AmdProduct* by_issuer = nullptr;
  for (const AmdProduct& product : roots.amd)
    if (issuer == "SEV-" + product.suffix || issuer == "SEV-VLEK-" + product.suffix) by_issuer = &product;
  demand(by_issuer != nullptr, kHardware, "sev-snp: certificate of an unknown issuer {}", quote_untrusted(issuer));
  if (report.version < 3) return *by_issuer;
  const AmdProduct* by_cpuid = amd_product(roots, report.family, report.model);
  demand(by_cpuid != nullptr, kHardware, "sev-snp: processor of family {:#x} model {:#x} is not known here",
         report.family, report.model);
  demand(by_cpuid == by_issuer, kHardware, "sev-snp: report of {}, certificate of {}", by_cpuid->name, by_issuer->name);
  return *by_issuer;
}

void check_chip(const SnpReport& report, const SnpEndorsement& endorsement) {
  demand(endorsement.hwid.has_value(), kHardware, "sev-snp: VCEK without a hardware id");
  const Bytes& hwid = *endorsement.hwid;
  const ByteView chip_id(report.chip_id);
  const bool is_rest_zero = std::all_of(chip_id.begin() + static_cast<std::ptrdiff_t>(hwid.size()), chip_id.end(),
                                        [](std::byte byte) { return byte == std::byte{0}; });
  demand(std::equal(hwid.begin(), hwid.end(), chip_id.begin()) && is_rest_zero, kInstanceIdentity,
         "sev-snp: the report's chip id is not that of its VCEK");
}

/// AMD's list names revoked ASKs and ASVKs. @returns whether one was at hand.
bool check_crl(const Collateral& collateral, const AmdProduct& product, X509* issuer, UtcTime now,
               SeenCollateral& used) {
  bool is_any = false;
  for (const Bytes& der : collateral.revocation_lists) {
    const UniqueCrl crl = parse_crl(der, "sev-snp: revocation list");
    if (common_name(X509_CRL_get_issuer(crl.get())) != "ARK-" + product.suffix) continue;
    verify_crl(crl.get(), product.ark.get(), now, "sev-snp");
    demand(!is_revoked(crl.get(), issuer), kHardware, "sev-snp: {} is revoked", quote_untrusted(subject_of(issuer)));
    const CrlFacts facts = facts_of(crl.get());
    used.remember("crl ARK-" + product.suffix, {facts.number, facts.issued});
    is_any = true;
  }
  return is_any;
}

}  // namespace

const AmdProduct* amd_product(const VendorRoots& roots, uint8_t family, uint8_t model) {
  std::string_view name;
  if (family == 0x19 && model <= 0x0F) name = "milan";
  if (family == 0x19 && ((model >= 0x10 && model <= 0x1F) || (model >= 0xA0 && model <= 0xAF))) name = "genoa";
  if (family == 0x1A && model <= 0x11) name = "turin";
  for (const AmdProduct& product : roots.amd)
    if (product.name == name) return &product;
  return nullptr;
}

UniqueX509 verify_amd_chain(X509* leaf, bool is_vlek, const AmdProduct& product,
                            const std::vector<X509*>& intermediates, UtcTime now) {
  const std::string what = fmt::format("sev-snp: chain of the {}", is_vlek ? "VLEK" : "VCEK");
  std::vector<X509*> candidates = {is_vlek ? product.asvk.get() : product.ask.get()};
  candidates.insert(candidates.end(), intermediates.begin(), intermediates.end());
  auto path = verify_chain({.leaf = leaf,
                            .intermediates = std::move(candidates),
                            .root = product.ark.get(),
                            .revocation_lists = {},
                            .check_revocation = false,
                            .now = now},
                           what);
  const std::string issuer = (is_vlek ? "SEV-VLEK-" : "SEV-") + product.suffix;
  demand(path.size() == 3 && subject_of(path[1].get()) == issuer, kHardware, "{}: not issued by {}", what, issuer);
  demand(subject_of(leaf) == (is_vlek ? "SEV-VLEK" : "SEV-VCEK"), kHardware, "{}: certificate is {}", what,
         quote_untrusted(subject_of(leaf)));
  demand(is_on_curve(X509_get0_pubkey(leaf), Curve::kP384WithSha384), kHardware, "{}: key is not of P-384", what);
  return std::move(path[1]);
}

SnpVerified verify_snp(const SnpReport& report, const Evidence& evidence, const Collateral& collateral,
                       const VendorRoots& roots, UtcTime now) {
  demand(report.signature_algorithm == kEcdsaP384, kHardware,
         "sev-snp: report signed by algorithm {}, expected 1 (ECDSA P-384)", report.signature_algorithm);
  demand((report.key_flags & ~kKnownKeyFlags) == 0, kHardware, "sev-snp: report has key flags that are not known here");
  demand((report.key_flags & kChipKeyMasked) == 0, kHardware, "sev-snp: the chip key is masked, so nothing is signed");
  demand(report.signing_key() <= 1, kHardware, "sev-snp: report signed by key {}, expected 0 (VCEK) or 1 (VLEK)",
         report.signing_key());

  SnpVerified verified;
  verified.report = report;
  verified.is_vlek = report.signing_key() == static_cast<uint32_t>(SnpSigningKey::kVlek);
  const std::vector<UniqueX509> certificates = parse_all(evidence, collateral);
  X509* const leaf = find_signer(certificates, report, verified.is_vlek);
  const AmdProduct& product = product_of(roots, report, leaf);
  std::vector<X509*> others;
  for (const UniqueX509& certificate : certificates) others.push_back(certificate.get());
  const UniqueX509 issuer = verify_amd_chain(leaf, verified.is_vlek, product, others, now);

  verified.product = product.name;
  verified.endorsement = read_endorsement(leaf);
  demand(verified.endorsement.has_fmc == product.has_fmc, kHardware, "sev-snp: certificate {} an FMC version for {}",
         product.has_fmc ? "lacks" : "has", product.name);
  verified.current = decode_tcb(report.current_tcb, product.has_fmc, "current");
  verified.reported = decode_tcb(report.reported_tcb, product.has_fmc, "reported");
  verified.committed = decode_tcb(report.committed_tcb, product.has_fmc, "committed");
  verified.launch = decode_tcb(report.launch_tcb, product.has_fmc, "launch");
  demand(verified.reported == verified.endorsement.tcb, kHardware, "sev-snp: reported TCB is {}, the certificate's {}",
         to_text(verified.reported), to_text(verified.endorsement.tcb));
  if (!verified.is_vlek) check_chip(report, verified.endorsement);
  verified.has_crl = check_crl(collateral, product, issuer.get(), now, verified.used);
  check_runtime_data(evidence.runtime_data, report.report_data, "sev-snp");
  return verified;
}

}  // namespace tempo::attest
