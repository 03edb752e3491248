// Every check of quotes and of the platform alone, on machines that do not exist.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <functional>

#include "attest/appraise_with_roots.h"
#include "attest/intel/policy.h"
#include "attest/synthetic_intel.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace intel_test {

using ::testing::HasSubstr;
using namespace tempo::testing;  // NOLINT: the whole vocabulary of synthetic machines

template <size_t kBytes>
std::array<std::byte, kBytes> filled(uint8_t value) {
  std::array<std::byte, kBytes> out{};
  out.fill(std::byte{value});
  return out;
}
QuoteSpec edited(uint16_t version, std::function<void(Bytes&)> edit) {
  QuoteSpec spec;
  spec.version = version;
  spec.edit = std::move(edit);
  return spec;
}
QuoteSpec of_version(uint16_t version) { return edited(version, {}); }

class Intel : public ::testing::Test {
 protected:
  Intel() : collateral_(intel_.collateral()) {
    expected_.now = parse_utc(kNowInside, "now");
    policy_.tdx.emplace().mrtd = {filled<48>(0x22)};
    policy_.sgx.emplace().mrenclave = {filled<32>(0x22)};
  }
  Appraisal appraised(const Evidence& evidence) const {
    return appraise_with_unpinned_roots(evidence, collateral_, policy_, expected_, nullptr, intel_.roots());
  }
  /// Empty if accepted.
  std::string reason(const QuoteSpec& spec = {}) const { return appraised(intel_.evidence(spec)).reason; }
  /// With TCB info or QE identity of TDX as a test wants it.
  std::string reason_with(const std::function<void(Json&)>& edit_info, const std::function<void(Json&)>& edit_identity,
                          const QuoteSpec& spec = {}) {
    Json info = SyntheticIntel::tcb_info(true), identity = SyntheticIntel::qe_identity(true);
    if (edit_info) edit_info(info);
    if (edit_identity) edit_identity(identity);
    collateral_ = intel_.collateral_with(info, identity);
    return reason(spec);
  }

  const SyntheticIntel intel_;
  Policy policy_;
  Collateral collateral_;
  Expected expected_;
};

TEST_F(Intel, GoodQuotesOfEveryVersionAreAccepted) {
  for (const uint16_t version : {3, 4, 5}) EXPECT_EQ(reason(of_version(version)), "") << version;
  QuoteSpec spec = of_version(5);
  spec.body_type = 2;
  EXPECT_EQ(reason(spec), "") << "TDX 1.0 in version 5";
  spec = of_version(3);
  spec.is_processor_ca = true;
  spec.pck.platform_instance_id.reset();
  const Appraisal good = appraised(intel_.evidence(spec));
  EXPECT_TRUE(good.accepted) << good.reason;
  EXPECT_EQ(good.machine, "");
  const Json ear = parse_json_object(good.ear_json, "ear")["submods"]["sgx"];
  EXPECT_EQ(ear["ear.status"], "affirming");
  EXPECT_EQ(ear["tempo.claims"]["tcb_status"], "UpToDate");
}

TEST_F(Intel, SyntheticQuotesAreRefusedUnderTheVendorsRoots) {
  EXPECT_THAT(appraise(intel_.evidence(), collateral_, policy_, expected_, nullptr).reason,
              HasSubstr("tdx: PCK chain"));
}

TEST_F(Intel, UnknownFormatsAreRefused) {
  const auto at = [&](size_t offset, uint8_t value, uint16_t version = 4) {
    Evidence evidence = intel_.evidence(of_version(version));
    evidence.report[offset] = std::byte{value};
    return appraised(evidence).reason;
  };
  EXPECT_EQ(at(0, 2), "quote: version 2, expected 3 to 5");
  EXPECT_EQ(at(0, 6), "quote: version 6, expected 3 to 5");
  EXPECT_EQ(at(2, 3), "quote: attestation key of type 3, expected 2 (ECDSA P-256)");
  EXPECT_EQ(at(4, 0), "quote: version 4 for TEE 0x0, expected 0x81");
  EXPECT_EQ(at(4, 0x81, 3), "quote: version 3 for TEE 0x81, expected 0x0");
  EXPECT_EQ(at(12, 0), "quote: quoting enclave is not Intel's");
  EXPECT_EQ(at(48, 1, 5), "quote: body of type 1, expected 2 (TDX 1.0) or 3 (TDX 1.5)");
  EXPECT_EQ(at(50, 0x89, 5), "quote: body of 649 bytes, expected 648");
  EXPECT_EQ(at(632 + 4 + 128, 7), "quote: certification data of type 7, expected 6 (QE report)");
  Evidence swapped = intel_.evidence(of_version(3));
  swapped.tee = Tee::kTdx;
  EXPECT_EQ(appraised(swapped).reason, "tdx: the evidence is a quote of sgx");
}

TEST_F(Intel, DebuggableGuestsAndEnclavesAreNeverAccepted) {
  policy_.tdx->allowed_attributes = {"lass", "sept-ve", "migratable", "pks", "key-locker", "perfmon"};
  for (uint64_t bit = 0; bit < 8; ++bit)
    EXPECT_THAT(reason(edited(4, [&](Bytes& b) { put_little_endian(b, kTdAttributes, (1U << 28U) | (1U << bit), 8); })),
                HasSubstr("tdx: the TD is debuggable"));
  EXPECT_THAT(reason(edited(3, [&](Bytes& b) { b[kSgxAttributes] = std::byte{7}; })),
              HasSubstr("sgx: the enclave is debuggable"));
}

struct Case {
  const char* reason;
  uint16_t version;
  std::function<void(Bytes&)> edit;
  std::function<void(Policy&)> fix;  // what a policy says so that the same evidence is accepted
};

TEST_F(Intel, EveryPolicyFieldRefusesWithItsReason) {
  const auto fill = [](size_t offset, size_t count, uint8_t value) {
    return [=](Bytes& b) { put(b, offset, Bytes(count, std::byte{value})); };
  };
  const auto attributes = [](uint64_t value) {
    return [=](Bytes& b) { put_little_endian(b, kTdAttributes, value, 8); };
  };
  const std::vector<Case> cases = {
      {"tdx: mrtd 2424", 4, fill(kTdMrtd, 48, 0x24), [](Policy& p) { p.tdx->mrtd.push_back(filled<48>(0x24)); }},
      {"tdx: rtmr0 0101", 4, fill(kTdRtmr0, 48, 1), [](Policy& p) { p.tdx->rtmr[0].values = {filled<48>(1)}; }},
      {"tdx: rtmr1 0101", 4, fill(kTdRtmr0 + 48, 48, 1), [](Policy& p) { p.tdx->rtmr[1].any = true; }},
      {"tdx: rtmr2 0101", 4, fill(kTdRtmr0 + 96, 48, 1), [](Policy& p) { p.tdx->rtmr[2].values = {filled<48>(1)}; }},
      {"tdx: rtmr3 0101", 4, fill(kTdRtmr0 + 144, 48, 1), [](Policy& p) { p.tdx->rtmr[3].any = true; }},
      {"tdx: mr_config_id 0101", 4, fill(kTdConfigId, 48, 1), [](Policy& p) { p.tdx->mr_config_id.any = true; }},
      {"tdx: mr_owner 0101", 4, fill(kTdOwner, 48, 1), [](Policy& p) { p.tdx->mr_owner.any = true; }},
      {"tdx: mr_owner_config 0101", 4, fill(kTdOwnerConfig, 48, 1),
       [](Policy& p) { p.tdx->mr_owner_config.any = true; }},
      {"tdx: mr_service_td 0101", 5, fill(kTdServiceTd, 48, 1), [](Policy& p) { p.tdx->mr_service_td.any = true; }},
      {"tdx: SEPT_VE_DISABLE is not set", 4, attributes(0), [](Policy& p) { p.tdx->allowed_attributes = {"sept-ve"}; }},
      {"tdx: attribute migratable is not allowed", 4, attributes(3ULL << 28U),
       [](Policy& p) { p.tdx->allowed_attributes = {"migratable"}; }},
      {"tdx: attribute perfmon is not allowed", 4, attributes(1ULL << 28U | 1ULL << 63U),
       [](Policy& p) { p.tdx->allowed_attributes = {"perfmon"}; }},
      {"have bits that are not known here", 4, attributes(1ULL << 28U | 1ULL << 40U), {}},
      {"sgx: neither mrenclave 2424", 3, fill(kSgxMrenclave, 32, 0x24),
       [](Policy& p) {
         p.sgx->signers = {{filled<32>(0x44), 3, 7}};
       }},
      {"sgx: attribute kss is not allowed", 3, [](Bytes& b) { b[kSgxAttributes] = std::byte{0x85}; },
       [](Policy& p) { p.sgx->allowed_attributes = {"kss"}; }},
      {"sgx: attribute provision-key is not allowed", 3, [](Bytes& b) { b[kSgxAttributes] = std::byte{0x15}; },
       [](Policy& p) { p.sgx->allowed_attributes = {"provision-key"}; }},
      {"have bits that are not known here", 3, [](Bytes& b) { b[kSgxAttributes + 4] = std::byte{1}; }, {}},
      {"have bits that are not known here", 3, [](Bytes& b) { b[kSgxAttributes] = std::byte{4}; }, {}},
      {"have bits that are not known here", 3, [](Bytes& b) { b[kSgxMisc] = std::byte{2}; }, {}},
      {"sgx: config_id is not in the policy", 3, fill(kSgxConfigId, 64, 1),
       [](Policy& p) { p.sgx->config_id.values = {filled<64>(1)}; }},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.reason);
    const Policy before = policy_;
    EXPECT_THAT(reason(edited(c.version, c.edit)), HasSubstr(c.reason));
    if (c.fix) {
      c.fix(policy_);
      EXPECT_EQ(reason(edited(c.version, c.edit)), "");
    }
    policy_ = before;
  }
}

TEST_F(Intel, SignersAreAcceptedOnlyWithTheirProductAndVersion) {
  policy_.sgx->mrenclave.clear();
  const auto with = [&](const SgxSigner& signer) {
    policy_.sgx->signers = {signer};
    return reason(of_version(3));
  };
  EXPECT_EQ(with({filled<32>(0x44), 3, 7}), "");
  EXPECT_EQ(with({filled<32>(0x44), 3, 6}), "");
  for (const SgxSigner& other :
       {SgxSigner{filled<32>(0x44), 3, 8}, SgxSigner{filled<32>(0x44), 2, 7}, SgxSigner{filled<32>(0x45), 3, 7}})
    EXPECT_THAT(with(other), HasSubstr("signer 4444444444444444444444444444444444444444444444444444444444444444, "
                                       "product 3, SVN 7 is in the policy"));
}

TEST_F(Intel, EveryDemandOfAPolicyRefusesWithItsReason) {
  const std::vector<std::tuple<const char*, uint16_t, std::function<void(Policy&)>>> demands = {
      {"tdx: the policy does not name this TEE", 4, [](Policy& p) { p.tdx.reset(); }},
      {"sgx: the policy does not name this TEE", 3, [](Policy& p) { p.sgx.reset(); }},
      {"tdx: mr_seam 0000", 4, [](Policy& p) { p.tdx->mr_seam = {filled<48>(1)}; }},
      {"tdx: TEE TCB component 2 is 5, the policy's minimum is 6", 4,
       [](Policy& p) { p.tdx->minimum_tee_tcb_svn[2] = std::byte{6}; }},
      {"tdx: TCB evaluation data number 17, the policy's minimum is 18", 4,
       [](Policy& p) { p.tdx->tcb.minimum_tcb_evaluation_data_number = 18; }},
      {"sgx: PCE SVN 11, the policy's minimum is 12", 3, [](Policy& p) { p.sgx->tcb.minimum_pce_svn = 12; }},
      {"sgx: QE SVN 6, the policy's minimum is 7", 3, [](Policy& p) { p.sgx->tcb.minimum_qe_svn = 7; }},
      {"tdx: TCB component 15 is 0, the policy's minimum is 1", 4,
       [](Policy& p) { p.tdx->tcb.minimum_tcb_components[15] = std::byte{1}; }},
      {"tdx: platform instance id is not in the policy", 4,
       [](Policy& p) { p.tdx->tcb.platform_instance_ids = {filled<16>(1)}; }},
      {"sgx: config SVN 0, the policy's minimum is 1", 3, [](Policy& p) { p.sgx->minimum_config_svn = 1; }},
      {"tdx: TCB info was issued 2025-06-15T00:00:00Z, over the policy's 15 days ago", 4,
       [](Policy& p) { p.maximum_collateral_age_days = 15; }},
  };
  for (const auto& [expected, version, demand] : demands) {
    const Policy before = policy_;
    demand(policy_);
    EXPECT_THAT(reason(of_version(version)), HasSubstr(expected));
    policy_ = before;
  }
  policy_.tdx->tcb.platform_instance_ids = {filled<16>(0x77)};
  EXPECT_EQ(reason(), "");
  QuoteSpec spec;
  spec.pck.platform_instance_id.reset();
  EXPECT_EQ(reason(spec), "tdx: the platform has no instance id, the policy lists some");
}

TEST_F(Intel, TheFirstTcbLevelReachedDecidesTheStatus) {
  QuoteSpec spec;
  EXPECT_EQ(reason(spec), "");
  spec.pck.components[2] = 4;
  EXPECT_EQ(reason(spec), "tdx: TCB status OutOfDate is not accepted by the policy");
  policy_.tdx->tcb.tcb_statuses.insert("OutOfDate");
  EXPECT_EQ(reason(spec), "tdx: advisory INTEL-SA-00001 applies, the policy does not accept it");
  policy_.tdx->tcb.advisories = {"INTEL-SA-00001"};
  EXPECT_EQ(reason(spec), "");
  spec.pck.components[0] = 2;
  EXPECT_EQ(reason(spec), "tdx: the platform reaches no TCB level of TCB info 17");
  spec = {};
  spec.pck.pce_svn = 4;
  EXPECT_EQ(reason(spec), "tdx: the platform reaches no TCB level of TCB info 17");
  spec.pck.pce_svn = 10;
  policy_.tdx->tcb.tcb_statuses = {"UpToDate"};
  EXPECT_EQ(reason(spec), "tdx: TCB status OutOfDate is not accepted by the policy");
  // A component of the TD itself.
  EXPECT_EQ(reason(edited(4, [](Bytes& b) { b[kTdSvn + 2] = std::byte{4}; })),
            "tdx: TCB status OutOfDate is not accepted by the policy");
}

TEST_F(Intel, TheLevelOfTheTdxModuleIsChecked) {
  const auto module = [](uint8_t svn, uint8_t major) {
    return edited(4, [=](Bytes& b) {
      b[kTdSvn] = std::byte{svn};
      b[kTdSvn + 1] = std::byte{major};
    });
  };
  EXPECT_EQ(reason(module(4, 1)), "");
  EXPECT_EQ(reason(module(3, 1)), "tdx: TCB status OutOfDate is not accepted by the policy");
  EXPECT_EQ(reason(module(1, 1)), "tdx: module TDX_01 of security version 1 reaches no TCB level");
  EXPECT_EQ(reason(module(9, 3)), "tdx: TCB info knows no module TDX_03");
  // Major version 0: all components count with the platform's.
  EXPECT_EQ(reason(module(4, 0)), "tdx: the platform reaches no TCB level of TCB info 17") << "TDX component 1 is 1";
  EXPECT_EQ(reason_with([](Json& i) { i["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][1]["svn"] = 0; }, {}, module(4, 0)),
            "");
  EXPECT_EQ(reason_with([](Json& i) { i["tdxModuleIdentities"][0]["mrsigner"] = std::string(96, '1'); }, {}),
            "tdx: module is signed by another than TCB info says");
  EXPECT_EQ(reason(edited(4, [](Bytes& b) { b[kTdSeamAttributes] = std::byte{1}; })),
            "tdx: module is signed by another than TCB info says");
  EXPECT_EQ(reason_with({}, {}, edited(4, [](Bytes& b) { b[kTdSeamAttributes] = std::byte{1}; })),
            "tdx: module has other attributes than TCB info says");
}

TEST_F(Intel, AnOutdatedPartLowersTheStatus) {
  const auto old_qe = [](Bytes& qe) { put_little_endian(qe, kSgxSvn, 5, 2); };
  QuoteSpec spec;
  spec.edit_qe = old_qe;
  EXPECT_EQ(reason(spec), "tdx: TCB status OutOfDate is not accepted by the policy");
  policy_.tdx->tcb.tcb_statuses = {"ConfigurationNeeded", "OutOfDate"};
  EXPECT_EQ(reason_with([](Json& i) { i["tcbLevels"][0]["tcbStatus"] = "ConfigurationNeeded"; }, {}, spec),
            "tdx: TCB status OutOfDateConfigurationNeeded is not accepted by the policy");
  EXPECT_EQ(reason_with([](Json& i) { i["tcbLevels"][0]["tcbStatus"] = "SWHardeningNeeded"; }, {}, spec), "");
  EXPECT_EQ(reason_with({}, [](Json& q) { q["tcbLevels"][0]["tcbStatus"] = "Revoked"; }), "tdx: TCB status Revoked");
  EXPECT_EQ(reason_with([](Json& i) { i["tcbLevels"][0]["tcbStatus"] = "Revoked"; }, {}), "tdx: TCB status Revoked");
  EXPECT_EQ(reason_with([](Json& i) { i["tdxModuleIdentities"][0]["tcbLevels"][0]["tcbStatus"] = "Revoked"; }, {}),
            "tdx: TCB status Revoked");
}

TEST_F(Intel, AQuotingEnclaveOtherThanIntelsIsRefused) {
  const auto with_qe = [&](const std::function<void(Bytes&)>& edit) {
    QuoteSpec spec;
    spec.edit_qe = edit;
    return reason(spec);
  };
  EXPECT_THAT(with_qe([](Bytes& q) { q[kSgxMisc] = std::byte{1}; }), HasSubstr("another MISCSELECT"));
  EXPECT_THAT(with_qe([](Bytes& q) { q[kSgxAttributes] = std::byte{0x13}; }), HasSubstr("other attributes"));
  EXPECT_THAT(with_qe([](Bytes& q) { q[kSgxMrsigner] = std::byte{0}; }), HasSubstr("signed by another than Intel"));
  EXPECT_THAT(with_qe([](Bytes& q) { q[kSgxProductId] = std::byte{1}; }), HasSubstr("product 1, expected 2"));
  EXPECT_THAT(with_qe([](Bytes& q) { q[kSgxSvn] = std::byte{3}; }),
              HasSubstr("security version 3 reaches no TCB level"));
  EXPECT_THAT(with_qe([](Bytes& q) { q[kSgxReportData + 40] = std::byte{1}; }), HasSubstr("does not bind"));
}

TEST_F(Intel, ExpiredForeignAndMalformedTcbStatementsAreRefused) {
  EXPECT_THAT(
      reason_with([](Json& i) { i["nextUpdate"] = "2025-06-30T23:59:59Z"; }, {}),
      HasSubstr("TCB info: valid from 2025-06-15T00:00:00Z to 2025-06-30T23:59:59Z, it is 2025-07-01T00:00:00Z"));
  EXPECT_THAT(reason_with([](Json& i) { i["issueDate"] = "2025-07-01T00:00:01Z"; }, {}),
              HasSubstr("TCB info: valid from"));
  EXPECT_THAT(reason_with({}, [](Json& q) { q["nextUpdate"] = "2025-06-30T23:59:59Z"; }),
              HasSubstr("QE identity: valid"));
  EXPECT_THAT(reason_with([](Json& i) { i["fmspc"] = "0F0F0F0F0F10"; }, {}),
              HasSubstr("no TCB info for platform 0f0f"));
  EXPECT_THAT(reason_with([](Json& i) { i["pceId"] = "0001"; }, {}), HasSubstr("TCB info of platform"));
  EXPECT_THAT(reason_with([](Json& i) { i["version"] = 2; }, {}), HasSubstr("version 2, expected 3"));
  EXPECT_THAT(reason_with([](Json& i) { i["tcbType"] = 1; }, {}), HasSubstr("TCB of type 1, expected 0"));
  EXPECT_THAT(reason_with([](Json& i) { i["tcbLevels"][1]["tcbStatus"] = "Fine"; }, {}),
              HasSubstr("unknown TCB status \"Fine\""));
  EXPECT_THAT(reason_with([](Json& i) { i["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].erase(15); }, {}),
              HasSubstr("15 components, expected 16"));
  EXPECT_THAT(reason_with({}, [](Json& q) { q["id"] = "QVE"; }), HasSubstr("of \"QVE\", expected QE or TD_QE"));
  EXPECT_THAT(reason_with({}, [](Json& q) { q["version"] = 3; }), HasSubstr("version 3, expected 2"));
}

TEST_F(Intel, TheNewestOfSeveralTcbStatementsCounts) {
  Json newer = SyntheticIntel::tcb_info(true);
  newer["tcbEvaluationDataNumber"] = 18;
  newer["tcbLevels"][0]["tcb"]["pcesvn"] = 13;
  for (const bool is_first : {true, false}) {
    collateral_ = intel_.collateral();
    collateral_.tcb_infos.insert(is_first ? collateral_.tcb_infos.begin() : collateral_.tcb_infos.end(),
                                 intel_.signed_json(newer.dump()));
    EXPECT_EQ(reason(), "tdx: TCB status OutOfDate is not accepted by the policy");
  }
}

TEST_F(Intel, RevokedAndMisusedCertificatesAreRefused) {
  Collateral good = intel_.collateral();
  const Evidence evidence = intel_.evidence();
  const auto leaf =
      parse_certificate(read_pem(parse_quote(evidence.report).pck_chain, 6, "chain").certificates[0], "leaf");
  const auto reason_of = [&](std::vector<Bytes> lists) {
    collateral_ = good;
    collateral_.revocation_lists = std::move(lists);
    return appraised(evidence).reason;
  };
  const Bytes root_list = intel_.root.revocation_list(), pck_list = intel_.platform_ca.revocation_list();
  EXPECT_EQ(reason_of({root_list, pck_list}), "");
  EXPECT_THAT(reason_of({root_list, intel_.platform_ca.revocation_list({leaf.get()})}),
              HasSubstr("certificate revoked, at \"Intel SGX PCK Certificate\""));
  EXPECT_THAT(reason_of({intel_.root.revocation_list({intel_.platform_certificate.get()}), pck_list}),
              HasSubstr("certificate revoked, at \"Intel SGX PCK Platform CA\""));
  EXPECT_THAT(reason_of({intel_.root.revocation_list({intel_.tcb_certificate.get()}), pck_list}),
              HasSubstr("TCB info: chain: certificate revoked"));
  EXPECT_THAT(reason_of({root_list}), HasSubstr("unable to get certificate CRL"));
  EXPECT_THAT(reason_of({pck_list}), HasSubstr("unable to get certificate CRL"));
  EXPECT_THAT(
      reason_of({root_list, SyntheticKey("Intel SGX PCK Platform CA", Curve::kP256WithSha256).revocation_list()}),
      HasSubstr("CRL signature failure"));
  // Where there are two lists the newer counts, so an old one beside it hides nothing.
  EXPECT_THAT(reason_of({root_list, intel_.platform_ca.revocation_list({leaf.get()}, 2, "2025-06-01"), pck_list}),
              HasSubstr("certificate revoked"));
  // A certificate of Intel's for something else signs no statement.
  collateral_ = good;
  collateral_.certificates = {
      to_der(intel_.root.certify({.name = "Intel SGX Something"}, intel_.tcb_signing.key()).get())};
  EXPECT_THAT(reason(), HasSubstr("does not verify with any TCB signing certificate"));
}

TEST_F(Intel, PckExtensionsAreRead) {
  const auto facts = [&](const PckSpec& spec) {
    QuoteSpec quote;
    quote.pck = spec;
    return read_pck(intel_.pck(quote).get());
  };
  PckSpec spec;
  spec.components[15] = 255;
  spec.pce_svn = 65535;
  EXPECT_EQ(facts(spec).components[15], 255);
  EXPECT_EQ(facts(spec).pce_svn, 65535);
  spec.pce_svn = 65536;
  EXPECT_THAT(message_of<AttestationError>([&] { facts(spec); }), HasSubstr("2.17 is missing or malformed"));
  spec = {};
  spec.fmspc.pop_back();
  EXPECT_THAT(message_of<AttestationError>([&] { facts(spec); }), HasSubstr("13.1.4 is missing or malformed"));
  spec = {};
  spec.platform_instance_id->pop_back();
  EXPECT_THAT(message_of<AttestationError>([&] { facts(spec); }), HasSubstr("13.1.6 is missing or malformed"));
  EXPECT_THAT(message_of<AttestationError>([&] { read_pck(intel_.tcb_certificate.get()); }), HasSubstr("missing"));
}

TEST_F(Intel, ReportDataAndConfigHashMustBeAsExpected) {
  for (const uint16_t version : {3, 4}) {
    expected_.report_data = filled<64>(0x11);
    EXPECT_EQ(reason(of_version(version)), "");
    expected_.report_data = filled<64>(0x12);
    EXPECT_THAT(reason(of_version(version)), HasSubstr("report_data is not what was asked for"));
  }
}

TEST_F(Intel, PolicyFromEvidenceAcceptsItAndNothingWeaker) {
  for (const uint16_t version : {3, 4, 5}) {
    policy_ = policy_from_with_unpinned_roots(intel_.evidence(of_version(version)), collateral_, expected_.now,
                                              intel_.roots());
    EXPECT_EQ(parse_policy(as_view(to_json(policy_)), "again"), policy_);
    EXPECT_EQ(reason(of_version(version)), "");
    QuoteSpec weaker = of_version(version);
    weaker.pck.components[7] = 4;
    EXPECT_THAT(reason(weaker), HasSubstr("TCB component 7 is 4, the policy's minimum is 5"));
  }
}

}  // namespace intel_test
}  // namespace tempo::attest
