// Seeds of the parsers of attestation, made of machines that do not exist.
#include "make_attest_corpus.h"

#include <fmt/format.h>

#include "attest/crypto/json.h"
#include "attest/policy.h"
#include "attest/simulated.h"
#include "attest/synthetic_intel.h"
#include "attest/synthetic_snp.h"
#include "base/file.h"

namespace tempo::fuzz {
namespace {

using namespace tempo::attest;
using namespace tempo::testing;  // NOLINT: the whole vocabulary of synthetic machines

void save(const std::filesystem::path& path, ByteView bytes) {
  std::filesystem::create_directories(path.parent_path());
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}
void save(const std::filesystem::path& path, const std::string& text) { save(path, as_view(text)); }

Policy full_policy() {
  Policy policy;
  SnpPolicy& snp = policy.sev_snp.emplace();
  snp.measurements = {Digest48{}};
  snp.products = {"milan"};
  snp.host_data.any = true;
  snp.required_platform = {"ecc"};
  policy.tdx.emplace().mrtd = {Digest48{}};
  policy.tdx->rtmr[0].values = {Digest48{}};
  policy.sgx.emplace().signers = {{Digest32{}, 1, 2}};
  policy.insecure_simulated.emplace().measurements = {Digest32{}};
  policy.maximum_collateral_age_days = 30;
  return policy;
}

Bytes hcl_blob(const Bytes& report) {
  Bytes blob(0x4C0);
  put(blob, 0, as_view("HCLA"));
  put(blob, 0x20, report);
  for (const uint32_t value : {22U, 1U, 2U, 1U, 2U}) append_little_endian(blob, value, 4);
  const ByteView claims = as_view("{}");
  blob.insert(blob.end(), claims.begin(), claims.end());
  return blob;
}

void make_reports(const std::filesystem::path& folder, const SyntheticAmd& amd) {
  for (const uint32_t version : {2, 3, 5}) {
    SnpSpec spec;
    spec.version = version;
    save(folder / fmt::format("version_{}", version), amd.evidence(spec).report);
  }
}

void make_collateral(const std::filesystem::path& folder, const SyntheticIntel& intel, const SyntheticAmd& amd) {
  const SignedJson info = intel.signed_json(SyntheticIntel::tcb_info(true).dump()),
                   identity = intel.signed_json(SyntheticIntel::qe_identity(true).dump());
  const Json bundle = {{"tcb_info", info.text},
                       {"tcb_info_signature", to_hex(info.signature)},
                       {"tcb_info_issuer_chain", to_pem(intel.tcb_certificate.get())},
                       {"qe_identity", identity.text},
                       {"qe_identity_signature", to_hex(identity.signature)},
                       {"root_ca_crl", to_hex(intel.root.revocation_list())}};
  save(folder / "bundle", bundle.dump());
  save(folder / "tcb_info_tdx", info.text);
  save(folder / "tcb_info_sgx", SyntheticIntel::tcb_info(false).dump());
  save(folder / "qe_identity", identity.text);
  save(folder / "answer", fmt::format("{{\"tcbInfo\":{},\"signature\":\"{}\"}}", info.text, to_hex(info.signature)));
  save(folder / "pck", to_der(intel.pck().get()));
  save(folder / "vcek", to_der(amd.vcek().get()));
  save(folder / "pem", to_pem(amd.vcek().get()));
  save(folder / "list", intel.root.revocation_list({intel.tcb_certificate.get()}));
}

}  // namespace

void make_attest_corpus(const std::filesystem::path& folder) {
  const SyntheticAmd amd;
  const SyntheticIntel intel;
  make_reports(folder / "snp_report", amd);
  for (const uint16_t version : {4, 5})
    save(folder / "tdx_quote" / fmt::format("version_{}", version), intel.quote({.version = version}));
  save(folder / "sgx_quote" / "version_3", intel.quote({.version = 3}));
  make_collateral(folder / "collateral", intel, amd);
  save(folder / "policy" / "full", to_json(full_policy()));
  save(folder / "policy" / "nul_and_junk", to_json(full_policy()) + std::string("\0junk", 5));
  const Evidence snp = amd.evidence();
  save(folder / "evidence" / "bundle", to_json(snp));
  save(folder / "evidence" / "nul_and_junk", to_json(snp) + std::string("\0junk", 5));
  save(folder / "evidence" / "hcl", hcl_blob(snp.report));
  save(folder / "evidence" / "insecure_simulated", make_insecure_simulated_report({}));
  save(folder / "evidence" / "quote", to_json(intel.evidence({.version = 3})));
}

}  // namespace tempo::fuzz
