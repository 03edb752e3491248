// Every row of the vectors' README on SEV-SNP, and its negative tests.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "attest/snp/policy.h"
#include "attest/vectors.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace snp_vectors_test {

using ::testing::AnyOf;
using testing::at;
using testing::at_time;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::StartsWith;

class SnpVectors : public testing::VectorTest {
 protected:
  SnpVerified verify(const std::string& report, std::initializer_list<std::string> certificates,
                     std::string_view now = kNow) const {
    const Evidence found = evidence(report);
    return verify_snp(parse_snp_report(found.report), found, collateral(certificates), pinned_vendor_roots(), at(now));
  }
  /// A policy that allows exactly this evidence.
  Policy fitting(const std::string& report, std::initializer_list<std::string> certificates,
                 std::string_view now = kNow) const {
    return policy_from(evidence(report), collateral(certificates), at(now));
  }
  Appraisal appraised(const std::string& report, std::initializer_list<std::string> certificates, const Policy& policy,
                      std::string_view now = kNow) const {
    return appraise(evidence(report), collateral(certificates), policy, at_time(now), nullptr);
  }
  /// The reason with which these bytes are refused under a policy that allows the unaltered ones.
  std::string refusal(const Bytes& report, const Collateral& given, const Policy& policy,
                      std::string_view now = kNow) const {
    Evidence altered;
    altered.tee = Tee::kSevSnp;
    altered.report = report;
    const Appraisal appraisal = appraise(altered, given, policy, at_time(now), nullptr);
    EXPECT_FALSE(appraisal.accepted);
    return appraisal.reason;
  }

  static constexpr std::string_view kNow = "2026-06-01";
  const std::string milan_ = "snp/milan_v3_azure_aci.report.bin", milan_key_ = "snp/milan_v3_azure_aci.vcek.pem";
};

TEST_F(SnpVectors, AMilanV3ReportOfAzureContainersIsVerified) {
  const SnpVerified v = verify(milan_, {milan_key_});
  EXPECT_EQ(v.report.version, 3u);
  EXPECT_EQ(v.product, "milan");
  EXPECT_EQ(to_hex(v.report.measurement),
            "5feee30d6d7e1a29f403d70a4198237ddfb13051a2d6976439487c609388ed7f98189887920ab2fa0096903a0c23fca1");
  EXPECT_EQ(to_hex(v.report.host_data), "4f4448c67f3c8dfc8de8a5e37125d807dadcc41f06cf23f615dbd52eec777d10");
  EXPECT_EQ(v.reported, (SnpTcb{0, 4, 0, 24, 0xDB}));
  EXPECT_NE(v.report.id_key_digest, Digest48{}) << "the ID block is set";
  const Appraisal good = appraised(milan_, {milan_key_}, fitting(milan_, {milan_key_}));
  EXPECT_TRUE(good.accepted) << good.reason;
  EXPECT_EQ(good.machine, to_hex(v.report.chip_id));
}

TEST_F(SnpVectors, ATurinV5ReportOfAzureContainersIsVerified) {
  const std::string report = "snp/turin_v5_azure_aci.report.bin", key = "snp/turin_v5_azure_aci.vcek.pem";
  const SnpVerified v = verify(report, {key});
  EXPECT_EQ(v.report.version, 5u);
  EXPECT_EQ(v.product, "turin");
  EXPECT_EQ(v.reported, (SnpTcb{1, 1, 1, 4, 0x51}));
  EXPECT_TRUE(v.endorsement.has_fmc);
  EXPECT_EQ(v.endorsement.hwid->size(), 8u);
  EXPECT_EQ(v.report.launch_mitigations, 0x3Fu);
  EXPECT_EQ(v.report.current_mitigations, 0x3Fu);
  EXPECT_NE(v.report.platform & (1u << 6), 0u);
  EXPECT_EQ(to_hex(v.report.measurement),
            "6d6c354511d6f7c6d7504668903dc5bdc066a048b651840d8d03fb85299ebfa142fccf1d1b0baca496841bdf243619d4");
  Policy policy = fitting(report, {key});
  EXPECT_EQ(policy.sev_snp->required_mitigations, 0x3Fu);
  EXPECT_TRUE(appraised(report, {key}, policy).accepted);
  policy.sev_snp->required_mitigations = 0x7F;
  EXPECT_THAT(appraised(report, {key}, policy).reason, HasSubstr("mitigations 0x3f at launch"));
  policy.sev_snp->required_mitigations = 0;
  policy.sev_snp->minimum_launch_tcb.fmc = 2;
  EXPECT_EQ(appraised(report, {key}, policy).reason, "sev-snp: launch TCB: fmc is 1, the policy's minimum is 2");
}

TEST_F(SnpVectors, ADebugReportIsGenuineAndRefused) {
  const std::string report = "snp/milan_v2_DEBUG.report.bin", key = "snp/milan_v2_DEBUG.vcek.der";
  const SnpVerified v = verify(report, {key}, "2025-06-01");
  EXPECT_EQ(v.report.version, 2u);
  EXPECT_EQ(v.report.guest_policy, 0xB0000u);
  EXPECT_THAT(to_hex(v.report.report_data), StartsWith("0102030405000"));
  EXPECT_EQ(message_of<AttestationError>([&] { fitting(report, {key}, "2025-06-01"); }),
            "sev-snp: debugging is allowed by the guest's policy");
  Policy policy = fitting(milan_, {milan_key_});
  policy.sev_snp->measurements = {v.report.measurement};
  policy.sev_snp->minimum_reported_tcb = policy.sev_snp->minimum_committed_tcb =
      policy.sev_snp->minimum_launch_tcb = {};
  policy.sev_snp->required_platform.clear();
  const Appraisal refused = appraised(report, {key}, policy, "2025-06-01");
  EXPECT_FALSE(refused.accepted);
  EXPECT_EQ(refused.reason, "sev-snp: debugging is allowed by the guest's policy");
}

TEST_F(SnpVectors, AReportWithProvisionalFirmwareNeedsPermission) {
  const std::string report = "snp/milan_v2_idblock.report.bin", key = "snp/milan_v2_idblock.vcek.der";
  const SnpVerified v = verify(report, {key}, "2025-06-01");
  EXPECT_EQ(v.reported.microcode, 0x73);
  EXPECT_EQ(v.committed.microcode, 0x73);
  EXPECT_EQ(v.current.microcode, 0xCE);
  EXPECT_EQ(to_hex(v.report.measurement),
            "a1f3930413247bb38cfc171579ea3c12d5fe4901f0c792f63fd75d98f1ef827c23500644e0e692e6be917f9050d3d38c");
  Policy policy = fitting(report, {key}, "2025-06-01");
  EXPECT_TRUE(policy.sev_snp->allow_provisional_firmware);
  EXPECT_TRUE(appraised(report, {key}, policy, "2025-06-01").accepted);
  policy.sev_snp->allow_provisional_firmware = false;
  EXPECT_THAT(appraised(report, {key}, policy, "2025-06-01").reason,
              HasSubstr("current firmware is not the committed one"));
}

TEST_F(SnpVectors, AReportSignedByAVlekOfAwsIsVerified) {
  const std::string report = "snp/milan_v3_aws_VLEK.report.bin", key = "snp/milan_v3_aws_VLEK.vlek.der";
  const SnpVerified v = verify(report, {key}, "2025-06-01");
  EXPECT_TRUE(v.is_vlek);
  EXPECT_EQ(v.report.vmpl, 1u);
  EXPECT_EQ(v.report.chip_id, Digest64{});
  EXPECT_EQ(v.endorsement.csp_id, "CN=cc-us-east-2.amazonaws.com");
  EXPECT_EQ(v.reported.microcode, 0xD9);
  EXPECT_EQ(v.committed.microcode, 0xDB);
  EXPECT_EQ(v.launch.microcode, 0xDB);
  EXPECT_EQ(v.current.microcode, 0xDC);

  const Policy good = fitting(report, {key}, "2025-06-01");
  EXPECT_TRUE(appraised(report, {key}, good, "2025-06-01").accepted);
  EXPECT_THAT(appraised(report, {key}, good, "2025-12-11").reason, HasSubstr("certificate has expired"));
  Policy policy = good;
  policy.sev_snp->maximum_vmpl = 0;
  EXPECT_EQ(appraised(report, {key}, policy, "2025-06-01").reason, "sev-snp: VMPL 1, the policy's maximum is 0");
  policy = good;
  policy.sev_snp->chip_ids = {verify(milan_, {milan_key_}).report.chip_id};
  EXPECT_EQ(appraised(report, {key}, policy, "2025-06-01").reason,
            "sev-snp: the platform hides its chip id, the policy lists some");
  policy = good;
  policy.sev_snp->allow_vlek = false;
  EXPECT_EQ(appraised(report, {key}, policy, "2025-06-01").reason,
            "sev-snp: signed by a VLEK, which the policy does not allow");
}

TEST_F(SnpVectors, AVlekDoesNotChainToTheIssuerOfVceks) {
  const AmdProduct& milan = pinned_vendor_roots().amd[0];
  const auto leaf = parse_certificate(bytes("snp/milan_v3_aws_VLEK.vlek.der"), "vlek");
  verify_amd_chain(leaf.get(), true, milan, {}, at("2025-06-01"));
  EXPECT_THAT(message_of<AttestationError>([&] { verify_amd_chain(leaf.get(), false, milan, {}, at("2025-06-01")); }),
              HasSubstr("unable to get"));
  // Nor when the right issuer is at hand, but it is asked for as a VCEK.
  EXPECT_THAT(message_of<AttestationError>(
                  [&] { verify_amd_chain(leaf.get(), false, milan, {milan.asvk.get()}, at("2025-06-01")); }),
              HasSubstr("not issued by SEV-Milan"));
}

TEST_F(SnpVectors, AGenoaV3ReportOfAnAzureVmIsVerified) {
  const std::string report = "snp/genoa_v3_azure_cvm.hcl_report.bin", key = "snp/genoa_v3_azure_cvm.vcek_chain.pem";
  const SnpVerified v = verify(report, {key});
  EXPECT_EQ(v.product, "genoa");
  EXPECT_EQ(to_hex(v.report.measurement),
            "f57dc09a507c6ecd82369bffb600f0003792f4d99bc26e985ec0c266fc34faf3706faf814c9e61065768a6ff917c89ae");
  EXPECT_THAT(to_hex(v.report.report_data),
              StartsWith("b581f12e29a2d7d64e5e0b738d563879a78b51c644d0fa0cce02b48699f6bf5f"));
  EXPECT_TRUE(appraised(report, {key}, fitting(report, {key})).accepted);
  Evidence altered = evidence(report);
  ASSERT_FALSE(altered.runtime_data.empty());
  altered.runtime_data[40] ^= std::byte{1};
  EXPECT_EQ(appraise(altered, collateral({key}), fitting(report, {key}), at_time(kNow), nullptr).reason,
            "sev-snp: report_data is not the hash of the runtime data");
}

TEST_F(SnpVectors, AVcekOfTurinChainsOnlyToTheRootOfTurin) {
  const auto leaf = parse_certificate(bytes("snp/turin_vcek_only.der"), "vcek");
  for (const AmdProduct& product : pinned_vendor_roots().amd) {
    const auto verify_it = [&] { verify_amd_chain(leaf.get(), false, product, {}, at("2025-06-01")); };
    if (product.name == "turin")
      verify_it();
    else
      EXPECT_THAT(message_of<AttestationError>(verify_it), HasSubstr("chain of the VCEK"));
  }
  EXPECT_TRUE(read_endorsement(leaf.get()).has_fmc);
}

TEST_F(SnpVectors, BothEncodingsOfTheHardwareIdAreReadAndForgedCertificatesRefused) {
  std::string hwid;
  for (int i = 0; i < 64; ++i) hwid += fmt::format("{:02x}", i);
  for (const char* name : {"snp/NOT_AMD_SIGNED_vcek_hwid_raw.der", "snp/NOT_AMD_SIGNED_vcek_hwid_octetstring.der"}) {
    SCOPED_TRACE(name);
    const auto leaf = parse_certificate(bytes(name), "vcek");
    EXPECT_EQ(to_hex(*read_endorsement(leaf.get()).hwid), hwid);
    for (const AmdProduct& product : pinned_vendor_roots().amd)
      EXPECT_THAT(
          message_of<AttestationError>([&] { verify_amd_chain(leaf.get(), false, product, {}, at("2025-06-01")); }),
          HasSubstr("chain of the VCEK"));
  }
}

TEST_F(SnpVectors, EveryAlteredByteOfTheSignedPartIsRefused) {
  const Bytes good = bytes(milan_);
  const Collateral given = collateral({milan_key_});
  const Policy policy = fitting(milan_, {milan_key_});
  for (size_t i = 0; i < kSnpSignedBytes; ++i) {
    Bytes bad = good;
    bad[i] ^= std::byte{1};
    const std::string reason = refusal(bad, given, policy);
    const bool is_checked_before = (i > 0 && i < 4) || (i >= 0x34 && i < 0x38) || (i > 0x48 && i < 0x4C);
    if (is_checked_before)
      EXPECT_THAT(reason, AnyOf(HasSubstr("version"), HasSubstr("algorithm"), HasSubstr("key"))) << "byte " << i;
    else
      EXPECT_THAT(reason, HasSubstr("signature does not verify")) << "byte " << i;
  }
  for (const size_t i : {0x2A0, 0x2A0 + 47, 0x2A0 + 72, 0x2A0 + 72 + 47}) {
    Bytes bad = good;
    bad[i] ^= std::byte{1};
    EXPECT_THAT(refusal(bad, given, policy), HasSubstr("signature does not verify")) << "byte " << i;
  }
}

TEST_F(SnpVectors, EveryTruncationIsRefused) {
  const Bytes good = bytes(milan_);
  const Collateral given = collateral({milan_key_});
  const Policy policy = fitting(milan_, {milan_key_});
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_EQ(refusal(Bytes(good.begin(), good.begin() + static_cast<long>(size)), given, policy),
              fmt::format("sev-snp report: {} bytes, expected 1184", size));
}

TEST_F(SnpVectors, TheKeyOfAnotherMachineIsNotAccepted) {
  const Policy policy = fitting(milan_, {milan_key_});
  EXPECT_THAT(appraised(milan_, {"snp/milan_v2_idblock.vcek.der"}, policy).reason,
              HasSubstr("signature does not verify with any VCEK"));
  EXPECT_THAT(appraised(milan_, {"snp/milan_v3_aws_VLEK.vlek.der"}, policy).reason, HasSubstr("no VCEK came with"));
  // One of several is found.
  EXPECT_TRUE(appraised(milan_, {"snp/milan_v2_idblock.vcek.der", milan_key_}, policy).accepted);
}

}  // namespace snp_vectors_test
}  // namespace tempo::attest
