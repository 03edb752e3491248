// Every check of SEV-SNP alone, on machines that do not exist.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <functional>

#include "attest/appraise_with_roots.h"
#include "attest/crypto/json.h"
#include "attest/snp/verify.h"
#include "attest/synthetic_snp.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace snp_test {

using testing::EndorsementSpec;
using ::testing::HasSubstr;
using testing::message_of;
using testing::SnpSpec;
using testing::SyntheticAmd;

template <size_t kBytes>
std::array<std::byte, kBytes> filled(uint8_t value) {
  std::array<std::byte, kBytes> out{};
  out.fill(std::byte{value});
  return out;
}

class Snp : public ::testing::Test {
 protected:
  Snp() {
    expected_.now = parse_utc(testing::kNowInside, "now");
    SnpPolicy& snp = policy_.sev_snp.emplace();
    snp.measurements = {filled<48>(0x22)};
    snp.products = {"milan", "turin"};
    snp.allowed_guest_policy = {"smt"};
  }
  SnpPolicy& snp() { return *policy_.sev_snp; }

  Appraisal appraised(const Evidence& evidence) const {
    return appraise_with_unpinned_roots(evidence, collateral_, policy_, expected_, nullptr, amd_.roots());
  }
  /// Empty if accepted.
  std::string reason(const SnpSpec& spec = {}, const EndorsementSpec& endorsed = {}) const {
    return appraised(amd_.evidence(spec, endorsed)).reason;
  }

  SyntheticAmd amd_;
  Policy policy_;
  Collateral collateral_;
  Expected expected_;
};

TEST_F(Snp, GoodEvidenceIsAccepted) {
  const Appraisal good = appraised(amd_.evidence());
  EXPECT_TRUE(good.accepted) << good.reason;
  EXPECT_EQ(good.reason, "");
  EXPECT_EQ(good.measurement, to_hex(filled<48>(0x22)));
  EXPECT_EQ(good.machine, to_hex(filled<64>(0x33)));
  const Json ear = parse_json_object(good.ear_json, "ear");
  EXPECT_EQ(ear["submods"]["sev-snp"]["ear.status"], "affirming");
  EXPECT_EQ(ear["submods"]["sev-snp"]["ear.trustworthiness-vector"]["hardware"], 2);
  EXPECT_EQ(ear["submods"]["sev-snp"]["ear.trustworthiness-vector"]["instance-identity"], 0)
      << "any machine is allowed";
  EXPECT_EQ(ear["submods"]["sev-snp"]["tempo.claims-verified"], true);
}

TEST_F(Snp, SyntheticEvidenceIsRefusedUnderTheVendorsRoots) {
  const Appraisal refused = appraise(amd_.evidence(), {}, policy_, expected_, nullptr);
  EXPECT_FALSE(refused.accepted);
  EXPECT_THAT(refused.reason, HasSubstr("chain of the VCEK"));
}

TEST_F(Snp, EvidenceIsRefusedIfThePolicyDoesNotNameSevSnp) {
  policy_.sev_snp.reset();
  policy_.tdx.emplace();
  EXPECT_EQ(reason(), "sev-snp: the policy does not name this TEE");
}

TEST_F(Snp, TheResultSaysWhatWasRefused) {
  policy_.sev_snp->measurements = {filled<48>(0x23)};
  const Json ear = parse_json_object(appraised(amd_.evidence()).ear_json, "ear")["submods"]["sev-snp"];
  EXPECT_EQ(ear["ear.status"], "contraindicated");
  EXPECT_EQ(ear["ear.trustworthiness-vector"]["executables"], 96);
  EXPECT_EQ(ear["ear.trustworthiness-vector"]["hardware"], 0);
  EXPECT_THAT(ear["tempo.reason"].get<std::string>(), HasSubstr("measurement 2222"));
}

TEST_F(Snp, BadCertificateChainsAreRefused) {
  const auto with_certificate = [&](const UniqueX509& certificate) {
    Evidence evidence = amd_.evidence();
    evidence.certificates = {to_der(certificate.get())};
    return appraised(evidence).reason;
  };
  const auto extensions = testing::endorsement({});
  EXPECT_EQ(with_certificate(amd_.vcek()), "");
  EXPECT_THAT(with_certificate(amd_.ask.certify(
                  {.name = "SEV-VCEK", .extensions = extensions, .valid_to = "2025-06-30"}, amd_.chip.key())),
              HasSubstr("certificate has expired"));
  EXPECT_THAT(with_certificate(amd_.ask.certify(
                  {.name = "SEV-VCEK", .extensions = extensions, .valid_from = "2025-07-02"}, amd_.chip.key())),
              HasSubstr("not yet valid"));
  EXPECT_THAT(with_certificate(amd_.ark.certify({.name = "SEV-VCEK", .extensions = extensions}, amd_.chip.key())),
              HasSubstr("unknown issuer \"ARK-Milan\""));
  EXPECT_THAT(
      with_certificate(
          testing::SyntheticKey("SEV-Milan").certify({.name = "SEV-VCEK", .extensions = extensions}, amd_.chip.key())),
      HasSubstr("certificate signature failure"));
  EXPECT_THAT(with_certificate(amd_.vlek({.hwid = {}})), HasSubstr("no VCEK came with"));
}

TEST_F(Snp, CertificatePathsLongerThanAmdsAreRefused) {
  // Signed by the real issuer, so one more step between it and the leaf: the path is longer than AMD's is.
  const testing::SyntheticKey middle("SEV-Milan");
  Evidence evidence = amd_.evidence();
  const UniqueX509 false_issuer = amd_.ask.certify({.name = "SEV-Milan", .is_ca = true}, middle.key());
  const UniqueX509 leaf = middle.certify({.name = "SEV-VCEK", .extensions = testing::endorsement({})}, amd_.chip.key());
  evidence.certificates = {to_der(leaf.get()), to_der(false_issuer.get())};
  EXPECT_THAT(appraised(evidence).reason, HasSubstr("chain of the VCEK"));
}

TEST_F(Snp, ACertificateOfAnotherReportIsRefused) {
  EXPECT_EQ(
      reason({}, {.microcode = 0xDA}),
      "sev-snp: reported TCB is fmc 0 bootloader 4 tee 0 snp 24 microcode 219, the certificate's fmc 0 bootloader 4 "
      "tee 0 snp 24 microcode 218");
  EXPECT_THAT(reason({}, {.bootloader = 5}), HasSubstr("reported TCB"));
  EXPECT_THAT(reason({}, {.tee = 1}), HasSubstr("reported TCB"));
  EXPECT_THAT(reason({}, {.snp = 23}), HasSubstr("reported TCB"));
  EXPECT_EQ(reason({}, {.hwid = Bytes(64, std::byte{0x34})}), "sev-snp: the report's chip id is not that of its VCEK");
  EXPECT_EQ(reason({}, {.hwid = Bytes(8, std::byte{0x33})}), "sev-snp: the report's chip id is not that of its VCEK");
  EXPECT_EQ(reason({.chip_id = Bytes(64, std::byte{0})}), "sev-snp: the report's chip id is not that of its VCEK");
  EXPECT_EQ(reason({}, {.hwid = {}}), "sev-snp: VCEK without a hardware id");
  EXPECT_EQ(reason({}, {.hwid = testing::der(4, Bytes(64, std::byte{0x33}))}), "") << "both encodings are read";
  EXPECT_THAT(reason({}, {.hwid = Bytes(63, std::byte{0x33})}), HasSubstr("extension 1.3.6.1.4.1.3704.1.4"));
  EXPECT_EQ(reason({}, {.fmc = 1}), "sev-snp: certificate has an FMC version for milan");
}

TEST_F(Snp, ReportsWithUnknownValuesAreRefused) {
  EXPECT_EQ(reason({.version = 1}), "sev-snp report: version 1, expected 2 to 5");
  EXPECT_EQ(reason({.version = 6}), "sev-snp report: version 6, expected 2 to 5");
  EXPECT_EQ(reason({.algorithm = 2}), "sev-snp: report signed by algorithm 2, expected 1 (ECDSA P-384)");
  EXPECT_EQ(reason({.key_flags = 2}), "sev-snp: the chip key is masked, so nothing is signed");
  EXPECT_EQ(reason({.key_flags = 7U << 2U}), "sev-snp: report signed by key 7, expected 0 (VCEK) or 1 (VLEK)");
  EXPECT_EQ(reason({.key_flags = 1U << 5U}), "sev-snp: report has key flags that are not known here");
  EXPECT_EQ(reason({.family = 0x17}), "sev-snp: processor of family 0x17 model 0x1 is not known here");
  EXPECT_EQ(reason({.family = 0x1B, .model = 0}), "sev-snp: processor of family 0x1b model 0x0 is not known here");
  EXPECT_EQ(reason({.family = 0x19, .model = 0x11}), "sev-snp: processor of family 0x19 model 0x11 is not known here")
      << "these roots have no Genoa";
  EXPECT_EQ(reason({.version = 4}), "");
  EXPECT_EQ(reason({.version = 2, .family = 0}), "") << "version 2 has no CPUID: the certificate says the product";
  SnpSpec spec;
  spec.current[3] = std::byte{1};
  EXPECT_EQ(reason(spec), "sev-snp: current TCB has a part that is not known here");
  EXPECT_THAT(reason({.guest_policy = 0x30000 | (1ULL << 26)}), HasSubstr("has bits that are not known here"));
  EXPECT_THAT(reason({.guest_policy = 0x10000}), HasSubstr("has bits that are not known here")) << "bit 17 must be 1";
}

TEST_F(Snp, TheTcbOfTurinIsReadInItsOwnOrder) {
  const SyntheticAmd turin("turin", "Turin", true);
  SnpSpec spec{.version = 5, .family = 0x1A, .model = 2};
  spec.current = spec.reported = spec.committed = spec.launch = SnpSpec::turin_tcb(1, 2, 3, 4, 0x51);
  spec.chip_id = Bytes(64, std::byte{0});
  for (size_t i = 0; i < 8; ++i) spec.chip_id[i] = std::byte{0x33};
  const EndorsementSpec endorsed{
      .bootloader = 2, .tee = 3, .snp = 4, .microcode = 0x51, .fmc = 1, .hwid = Bytes(8, std::byte{0x33})};
  const auto turin_reason = [&](const SnpSpec& s, const EndorsementSpec& e) {
    return appraise_with_unpinned_roots(turin.evidence(s, e), {}, policy_, expected_, nullptr, turin.roots()).reason;
  };
  EXPECT_EQ(turin_reason(spec, endorsed), "");
  EndorsementSpec other = endorsed;
  other.fmc = 2;
  EXPECT_THAT(turin_reason(spec, other), HasSubstr("reported TCB is fmc 1"));
  other.fmc.reset();
  EXPECT_EQ(turin_reason(spec, other), "sev-snp: certificate lacks an FMC version for turin");
  spec.chip_id[8] = std::byte{1};
  EXPECT_EQ(turin_reason(spec, endorsed), "sev-snp: the report's chip id is not that of its VCEK");
}

struct Field {
  const char* reason;
  std::function<void(SnpSpec&)> evidence;
  std::function<void(SnpPolicy&)> fixed;  // what a policy says so that the same evidence is accepted
};

TEST_F(Snp, EveryPolicyFieldRefusesWithItsReason) {
  const std::vector<Field> fields = {
      {"sev-snp: debugging is allowed by the guest's policy", [](SnpSpec& s) { s.guest_policy |= 1U << 19U; }, {}},
      {"sev-snp: the guest's policy allows smt, the client's does not", [](SnpSpec&) {}, {}},
      {"sev-snp: the guest's policy allows migration-agent, the client's does not",
       [](SnpSpec& s) { s.guest_policy |= 1U << 18U; },
       [](SnpPolicy& p) { p.allowed_guest_policy.insert("migration-agent"); }},
      {"sev-snp: the guest's policy allows cxl, the client's does not", [](SnpSpec& s) { s.guest_policy |= 1U << 21U; },
       [](SnpPolicy& p) { p.allowed_guest_policy.insert("cxl"); }},
      {"sev-snp: VMPL 1, the policy's maximum is 0", [](SnpSpec& s) { s.vmpl = 1; },
       [](SnpPolicy& p) { p.maximum_vmpl = 1; }},
      {"sev-snp: measurement 2424", [](SnpSpec& s) { s.measurement = Bytes(48, std::byte{0x24}); },
       [](SnpPolicy& p) { p.measurements.push_back(filled<48>(0x24)); }},
      {"sev-snp: host_data 5555", [](SnpSpec& s) { s.host_data = Bytes(32, std::byte{0x55}); },
       [](SnpPolicy& p) { p.host_data.values = {filled<32>(0x55)}; }},
      {"sev-snp: current firmware is not the committed one", [](SnpSpec& s) { s.current[7] = std::byte{0xDC}; },
       [](SnpPolicy& p) { p.allow_provisional_firmware = true; }},
      {"sev-snp: current firmware is not the committed one", [](SnpSpec& s) { s.current_firmware += 1; },
       [](SnpPolicy& p) { p.allow_provisional_firmware = true; }},
  };
  for (const Field& field : fields) {
    SCOPED_TRACE(field.reason);
    const Policy before = policy_;
    SnpSpec spec;
    field.evidence(spec);
    if (std::string_view(field.reason).find("smt") != std::string_view::npos) snp().allowed_guest_policy.clear();
    EXPECT_THAT(reason(spec), HasSubstr(field.reason));
    if (field.fixed) {
      field.fixed(snp());
      EXPECT_EQ(reason(spec), "");
    }
    policy_ = before;
  }
}

TEST_F(Snp, EveryDemandOfAPolicyRefusesWithItsReason) {
  const std::vector<std::pair<const char*, std::function<void(SnpPolicy&)>>> demands = {
      {"sev-snp: product milan is not in the policy", [](SnpPolicy& p) { p.products = {"genoa"}; }},
      {"sev-snp: no revocation list of milan in the collateral", [](SnpPolicy& p) { p.require_crl = true; }},
      {"sev-snp: mitigations 0x0 at launch", [](SnpPolicy& p) { p.required_mitigations = 1; }},
      {"sev-snp: the platform lacks smt-disabled", [](SnpPolicy& p) { p.required_platform = {"smt-disabled"}; }},
      {"sev-snp: the platform lacks tsme", [](SnpPolicy& p) { p.required_platform = {"tsme"}; }},
      {"sev-snp: the platform lacks rapl-disabled", [](SnpPolicy& p) { p.required_platform = {"rapl-disabled"}; }},
      {"sev-snp: the guest's policy lacks single-socket",
       [](SnpPolicy& p) { p.required_guest_policy = {"single-socket"}; }},
      {"sev-snp: the guest's policy lacks ciphertext-hiding",
       [](SnpPolicy& p) { p.required_guest_policy = {"ciphertext-hiding"}; }},
      {"sev-snp: guest SVN 5, the policy's minimum is 6", [](SnpPolicy& p) { p.minimum_guest_svn = 6; }},
      {"sev-snp: id key 0000", [](SnpPolicy& p) { p.id_keys = {filled<48>(1)}; }},
      {"sev-snp: author key 0000", [](SnpPolicy& p) { p.author_keys = {filled<48>(1)}; }},
      {"sev-snp: family id 0000", [](SnpPolicy& p) { p.family_ids = {filled<16>(1)}; }},
      {"sev-snp: image id 0000", [](SnpPolicy& p) { p.image_ids = {filled<16>(1)}; }},
      {"sev-snp: chip id is not in the policy", [](SnpPolicy& p) { p.chip_ids = {filled<64>(1)}; }},
      {"sev-snp: reported TCB: bootloader is 4, the policy's minimum is 5",
       [](SnpPolicy& p) { p.minimum_reported_tcb.bootloader = 5; }},
      {"sev-snp: committed TCB: microcode is 219, the policy's minimum is 220",
       [](SnpPolicy& p) { p.minimum_committed_tcb.microcode = 220; }},
      {"sev-snp: launch TCB: snp is 24, the policy's minimum is 25",
       [](SnpPolicy& p) { p.minimum_launch_tcb.snp = 25; }},
      {"sev-snp: launch TCB: tee is 0, the policy's minimum is 1", [](SnpPolicy& p) { p.minimum_launch_tcb.tee = 1; }},
      {"sev-snp: reported TCB: fmc is 0, the policy's minimum is 1",
       [](SnpPolicy& p) { p.minimum_reported_tcb.fmc = 1; }},
  };
  for (const auto& [expected, demand] : demands) {
    const Policy before = policy_;
    demand(snp());
    EXPECT_THAT(reason(), HasSubstr(expected));
    policy_ = before;
  }
  snp().required_platform = {"ecc", "alias-check"};  // 0x25
  snp().chip_ids = {filled<64>(0x33)};
  EXPECT_EQ(reason(), "");
}

TEST_F(Snp, AVlekIsAcceptedOnlyIfThePolicyAllowsIt) {
  SnpSpec spec{.key_flags = 1U << 2U, .chip_id = Bytes(64, std::byte{0})};
  const EndorsementSpec endorsed{.hwid = {}, .csp_id = "a cloud"};
  EXPECT_EQ(reason(spec, endorsed), "sev-snp: signed by a VLEK, which the policy does not allow");
  snp().allow_vlek = true;
  EXPECT_EQ(reason(spec, endorsed), "");
  snp().chip_ids = {filled<64>(0x33)};
  EXPECT_EQ(reason(spec, endorsed), "sev-snp: the platform hides its chip id, the policy lists some");
}

TEST_F(Snp, RevocationListsAreCheckedIfGiven) {
  const VendorRoots roots = amd_.roots();
  snp().require_crl = true;
  const auto with_list = [&](const Bytes& list) {
    collateral_.revocation_lists = {list};
    return reason();
  };
  EXPECT_EQ(with_list(amd_.ark.revocation_list()), "");
  EXPECT_EQ(with_list(amd_.ark.revocation_list({roots.amd[0].ask.get()})), "sev-snp: \"SEV-Milan\" is revoked");
  EXPECT_THAT(with_list(amd_.ark.revocation_list({}, 1, "2025-01-01", "2025-06-30")),
              HasSubstr("revocation list is valid from 2025-01-01T00:00:00Z to 2025-06-30T00:00:00Z"));
  EXPECT_THAT(with_list(testing::SyntheticKey("ARK-Milan").revocation_list()), HasSubstr("not signed by its issuer"));
  EXPECT_EQ(with_list(testing::SyntheticKey("ARK-Genoa").revocation_list()),
            "sev-snp: no revocation list of milan in the collateral");
  policy_.maximum_collateral_age_days = 181;
  EXPECT_EQ(with_list(amd_.ark.revocation_list()), "");
  policy_.maximum_collateral_age_days = 180;
  EXPECT_THAT(with_list(amd_.ark.revocation_list()), HasSubstr("over the policy's 180 days ago"));
}

TEST_F(Snp, OlderRevocationListsThanSeenAreRefused) {
  SeenCollateral seen;
  const auto with_list = [&](uint64_t number, const char* from) {
    collateral_.revocation_lists = {amd_.ark.revocation_list({}, number, from)};
    return appraise_with_unpinned_roots(amd_.evidence(), collateral_, policy_, expected_, &seen, amd_.roots()).reason;
  };
  EXPECT_EQ(with_list(7, "2025-03-01"), "");
  EXPECT_EQ(with_list(7, "2025-03-01"), "");
  EXPECT_EQ(with_list(6, "2025-03-01"), "crl ARK-Milan: number 6 is lower than 7, which was seen before");
  EXPECT_THAT(with_list(7, "2025-02-01"), HasSubstr("issued 2025-02-01T00:00:00Z, before 2025-03-01T00:00:00Z"));
  EXPECT_EQ(with_list(8, "2025-04-01"), "");
  EXPECT_THAT(with_list(7, "2025-03-01"), HasSubstr("number 7 is lower than 8"));
}

TEST_F(Snp, ReportDataAndConfigHashMustBeAsExpected) {
  expected_.report_data = filled<64>(0x11);
  EXPECT_EQ(reason(), "");
  expected_.report_data = filled<64>(0x12);
  EXPECT_EQ(reason(),
            "sev-snp: report_data is not what was asked for: the evidence is of another request or connection");
  expected_.report_data.reset();
  policy_.config_hashes = {filled<32>(1)};
  EXPECT_EQ(reason(), "sev-snp: the policy lists config hashes, none came with the evidence");
  expected_.config_hash = filled<32>(2);
  EXPECT_THAT(reason(), HasSubstr("config hash 0202"));
  expected_.config_hash = filled<32>(1);
  EXPECT_EQ(reason(), "");
}

TEST_F(Snp, PolicyFromEvidenceAcceptsItAndNothingWeaker) {
  SnpSpec spec{.host_data = Bytes(32, std::byte{0x44})};
  const Policy made = policy_from_with_unpinned_roots(amd_.evidence(spec), {}, expected_.now, amd_.roots());
  policy_ = parse_policy(as_view(to_json(made)), "again");
  EXPECT_EQ(policy_, made);
  EXPECT_EQ(reason(spec), "");
  spec.launch[7] = std::byte{0xDA};
  EXPECT_THAT(reason(spec), HasSubstr("launch TCB: microcode"));
  spec = {.platform = 0x21, .host_data = Bytes(32, std::byte{0x44})};
  EXPECT_THAT(reason(spec), HasSubstr("the platform lacks ecc"));
  EXPECT_EQ(message_of<AttestationError>([&] {
              policy_from_with_unpinned_roots(amd_.evidence({.guest_policy = 0xB0000}), {}, expected_.now,
                                              amd_.roots());
            }),
            "sev-snp: debugging is allowed by the guest's policy");
}

TEST_F(Snp, RequireAcceptedThrowsTheReason) {
  require_accepted(appraised(amd_.evidence()));
  EXPECT_EQ(message_of<AttestationError>([&] { require_accepted(appraised(amd_.evidence({.vmpl = 2}))); }),
            "sev-snp: VMPL 2, the policy's maximum is 0");
}

}  // namespace snp_test
}  // namespace tempo::attest
