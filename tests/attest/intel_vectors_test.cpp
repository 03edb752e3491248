// Every row of the vectors' README on SGX and TDX, and its negative tests.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <functional>

#include "attest/crypto/json.h"
#include "attest/hcl_blob.h"
#include "attest/intel/policy.h"
#include "attest/vectors.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace intel_vectors_test {

using ::testing::AnyOf;
using testing::at;
using testing::at_time;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

struct Case {
  std::string quote, collateral, now;
};
const Case kUpToDate = {"tdx/v4_uptodate.quote.bin", "tdx/v4_uptodate.collateral.json", "2025-07-01"};
const Case kSgxProd = {"sgx/v3_prod.quote.bin", "sgx/v3_prod.collateral.json", "2025-07-01"};

class IntelVectors : public testing::VectorTest {
 protected:
  Quote quote(const std::string& name) const { return parse_quote(bytes(name)); }
  /// Quote signature, QE report, binding and PCK chain: what the README calls crypto.
  QuoteVerified crypto(const std::string& name, std::string_view now = "2025-06-01") const {
    return verify_quote(quote(name), pinned_vendor_roots(), at(now));
  }
  Policy fitting(const Case& c) const { return policy_from(evidence(c.quote), collateral({c.collateral}), at(c.now)); }
  Appraisal appraised(const Case& c, const Policy& policy) const {
    return appraise(evidence(c.quote), collateral({c.collateral}), policy, at_time(c.now), nullptr);
  }
  /// Reason of refusal where only the evidence is at hand, and a policy for the TEE that allows what it can.
  std::string refusal_without_collateral(const std::string& name, const Policy& policy) const {
    const Appraisal appraisal = appraise(evidence(name), {}, policy, at_time("2025-06-01"), nullptr);
    EXPECT_FALSE(appraisal.accepted);
    return appraisal.reason;
  }
  static Policy policy_for(const TdReport& td) {
    Policy policy;
    policy.tdx.emplace();
    policy.tdx->mrtd = {td.mrtd};
    for (Allowed<Digest48>& rtmr : policy.tdx->rtmr) rtmr.any = true;
    policy.tdx->allowed_attributes = {"pks", "sept-ve"};
    return policy;
  }
};

TEST_F(IntelVectors, ATdxV4QuoteIsUpToDate) {
  const Quote q = quote(kUpToDate.quote);
  EXPECT_EQ(q.version, 4);
  EXPECT_EQ(to_hex(q.td().mrtd),
            "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7");
  const PlatformVerified platform = verify_platform(q, crypto(kUpToDate.quote), collateral({kUpToDate.collateral}),
                                                    pinned_vendor_roots(), at(kUpToDate.now));
  EXPECT_EQ(platform.tcb.platform, TcbStatus::kUpToDate);
  EXPECT_EQ(platform.tcb.module, TcbStatus::kUpToDate);
  EXPECT_EQ(platform.tcb.qe, TcbStatus::kUpToDate);
  EXPECT_EQ(platform.tcb.merged, TcbStatus::kUpToDate);
  EXPECT_TRUE(platform.tcb.advisories.empty());
  const Appraisal good = appraised(kUpToDate, fitting(kUpToDate));
  EXPECT_TRUE(good.accepted) << good.reason;
  EXPECT_EQ(good.machine, "07828474603e7019dc930775ffe8cdd2");
}

TEST_F(IntelVectors, CollateralOutsideItsWindowIsRefused) {
  const Policy policy = fitting(kUpToDate);
  const auto reason_at = [&](const char* now) {
    return appraised({kUpToDate.quote, kUpToDate.collateral, now}, policy).reason;
  };
  EXPECT_EQ(reason_at("2025-06-19T10:32:27Z"), "");
  EXPECT_THAT(reason_at("2025-06-19T10:32:26Z"), HasSubstr("QE identity: valid from 2025-06-19T10:32:27Z"));
  EXPECT_EQ(reason_at("2025-07-19T10:00:34Z"), "");
  EXPECT_THAT(reason_at("2025-07-19T10:00:36Z"), HasSubstr("CRL has expired"));
  EXPECT_THAT(reason_at("2025-06-19T09:00:00Z"), HasSubstr("CRL is not yet valid"));
  EXPECT_THAT(reason_at("2033-01-01"), HasSubstr("certificate has expired"));
}

TEST_F(IntelVectors, ATdxV5QuoteReachesNoTcbLevel) {
  const Case c = {"tdx/v5_td15_no_tcb_level.quote.bin", "tdx/v5_td15_no_tcb_level.collateral.json", "2026-03-01"};
  const Quote q = quote(c.quote);
  EXPECT_EQ(q.version, 5);
  EXPECT_TRUE(q.td().is_tdx15);
  const QuoteVerified verified = crypto(c.quote, c.now);
  EXPECT_EQ(verified.pck.components[7], 3);
  EXPECT_THAT(appraised(c, policy_for(q.td())).reason, HasSubstr("reaches no TCB level"));
  EXPECT_THAT(message_of<AttestationError>([&] { fitting(c); }), HasSubstr("reaches no TCB level"));
}

TEST_F(IntelVectors, ATdxV4QuoteOfGoogleReachesNoTcbLevel) {
  const std::string name = "tdx/v4_spr_e4_google.quote.bin";
  const Quote q = quote(name);
  const QuoteVerified verified = crypto(name, "2023-07-01");
  EXPECT_EQ(to_hex(q.td().tee_tcb_svn), "03000400000000000000000000000000");
  const Collateral google =
      collateral({"tdx/v4_spr_e4_google.tcbinfo_response.json", "tdx/google.qe_identity_response.json",
                  "tdx/google.root_crl.der", "tdx/google.pck_crl.bin"});
  ASSERT_EQ(google.tcb_infos.size(), 1u);
  ASSERT_EQ(google.qe_identities.size(), 1u);
  EXPECT_THAT(message_of<AttestationError>([&] {
                match_tcb(parse_tcb_info(google.tcb_infos[0].text), parse_qe_identity(google.qe_identities[0].text),
                          verified.pck, q.qe_report, &q.td());
              }),
              "tdx: the platform reaches no TCB level of TCB info 15");
  // SEPT_VE_DISABLE is 0.
  Policy policy = policy_for(q.td());
  policy.tdx->allowed_attributes.erase("sept-ve");
  EXPECT_THAT(refusal_without_collateral(name, policy), HasSubstr("SEPT_VE_DISABLE is not set"));
  // The answers of 2023 come without their signer's certificate: nothing is taken without it.
  const Appraisal refused = appraise(evidence(name), google, policy_for(q.td()), at_time("2023-07-01"), nullptr);
  EXPECT_THAT(refused.reason, HasSubstr("TCB info: its signature does not verify with any TCB signing certificate"));
}

TEST_F(IntelVectors, CollateralFetchedByGoogleIsSignedByIntel) {
  const Collateral google =
      collateral({"tdx/v4_spr_e4_google.tcbinfo_response.json", "tdx/google.qe_identity_response.json",
                  "tdx/google.root_crl.der", "tdx/google.pck_crl.bin"});
  // The signing key has kept, its certificate was renewed: that of 2025 holds the same key.
  const Collateral later = collateral({kUpToDate.collateral});
  const auto is_signed = [&](const SignedJson& item) {
    return std::any_of(later.certificates.begin(), later.certificates.end(),
                       [&](const Bytes& der) { return signs(parse_certificate(der, "signer").get(), item); });
  };
  SignedJson info = google.tcb_infos[0], identity = google.qe_identities[0];
  EXPECT_TRUE(is_signed(info));
  EXPECT_TRUE(is_signed(identity));
  info.text[10] ^= 1;
  identity.text[10] ^= 1;
  EXPECT_FALSE(is_signed(info));
  EXPECT_FALSE(is_signed(identity));
  const QuoteVerified verified = crypto("tdx/v4_spr_e4_google.quote.bin", "2023-07-01");
  ASSERT_EQ(google.revocation_lists.size(), 2u);
  X509* const root = pinned_vendor_roots().intel.get();
  verify_crl(parse_crl(google.revocation_lists[0], "root").get(), root, at("2023-07-01"), "root list");
  verify_crl(parse_crl(google.revocation_lists[1], "pck").get(), verified.pck_chain[1].get(), at("2023-07-01"),
             "pck list");
  EXPECT_THAT(message_of<AttestationError>([&] {
                verify_crl(parse_crl(google.revocation_lists[1], "pck").get(), root, at("2023-07-01"), "pck list");
              }),
              HasSubstr("not signed by its issuer"));
}

TEST_F(IntelVectors, DebugEvidenceIsGenuineAndRefused) {
  crypto("tdx/v4_DEBUG.quote.bin");
  EXPECT_THAT(refusal_without_collateral("tdx/v4_DEBUG.quote.bin", policy_for(quote("tdx/v4_DEBUG.quote.bin").td())),
              HasSubstr("tdx: the TD is debuggable"));
  const std::string occlum = "sgx/v3_DEBUG_occlum.quote.bin";
  crypto(occlum);
  EXPECT_EQ(to_hex(quote(occlum).enclave().mrenclave),
            "8f173e4613ff05c52aaf04162d234edae8c9977eae47eb2299ae16a553011c68");
  Policy policy;
  policy.sgx.emplace().mrenclave = {quote(occlum).enclave().mrenclave};
  EXPECT_THAT(refusal_without_collateral(occlum, policy), HasSubstr("sgx: the enclave is debuggable"));
  for (const std::string& name : {occlum, std::string("tdx/v4_DEBUG.quote.bin")})
    EXPECT_THAT(message_of<AttestationError>([&] { policy_from(evidence(name), {}, at("2025-06-01")); }),
                HasSubstr("debuggable"));
}

TEST_F(IntelVectors, TheServiceTdOfATdxV5QuoteMustBeAllowed) {
  const std::string name = "tdx/v5_td15_servicetd.quote.bin";
  crypto(name);
  const TdReport td = quote(name).td();
  Policy policy = policy_for(td);
  EXPECT_THAT(refusal_without_collateral(name, policy), HasSubstr("tdx: mr_service_td 383c87d3bbb0"));
  policy.tdx->mr_service_td.values = {td.mr_service_td};
  EXPECT_THAT(refusal_without_collateral(name, policy), HasSubstr("unable to get certificate CRL"));
}

TEST_F(IntelVectors, AnAzureParavisorQuoteBindsTheParavisorsClaims) {
  const std::string name = "tdx/v4_azure_paravisor.quote.bin";
  crypto(name);
  const Bytes blob = bytes("tdx/v4_azure_paravisor.hcl_report.bin");
  const HclBlob hcl = parse_hcl_blob(blob, "hcl");
  EXPECT_EQ(hcl.tee, Tee::kTdx);
  EXPECT_EQ(to_hex(sha256(hcl.claims)), "9734504f161d104c74e3165c15f779b06a9bb40dfa71937817d7eee68e593839");
  EXPECT_THAT(message_of<InputError>([&] { parse_evidence(blob, "blob"); }), HasSubstr("expected the quote"));
  Evidence bound = evidence(name);
  bound.runtime_data.assign(hcl.claims.begin(), hcl.claims.end());
  const TdReport td = quote(name).td();
  for (const Digest48& rtmr : td.rtmr) EXPECT_EQ(rtmr, Digest48{});
  const auto reason = [&] { return appraise(bound, {}, policy_for(td), at_time("2025-06-01"), nullptr).reason; };
  EXPECT_THAT(reason(), HasSubstr("unable to get certificate CRL"))
      << "the claims were accepted, collateral is missing";
  bound.runtime_data.back() ^= std::byte{1};
  EXPECT_EQ(reason(), "tdx: report_data is not the hash of the runtime data");
}

TEST_F(IntelVectors, AnSgxV3QuoteOfAProductionEnclaveIsVerified) {
  const Quote q = quote(kSgxProd.quote);
  EXPECT_EQ(q.version, 3);
  EXPECT_EQ(to_hex(q.enclave().mrenclave), "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb");
  EXPECT_EQ(to_hex(q.enclave().mrsigner), "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6");
  EXPECT_EQ(as_text(q.enclave().report_data).substr(0, 14), std::string_view("Hello, world!\0", 14));
  const QuoteVerified verified = crypto(kSgxProd.quote);
  EXPECT_FALSE(verified.pck.platform_instance_id.has_value());
  const PlatformVerified platform =
      verify_platform(q, verified, collateral({kSgxProd.collateral}), pinned_vendor_roots(), at(kSgxProd.now));
  EXPECT_EQ(platform.tcb.merged, TcbStatus::kConfigurationAndSwHardeningNeeded);
  EXPECT_EQ(platform.tcb.qe, TcbStatus::kUpToDate);
  EXPECT_THAT(platform.tcb.advisories, ElementsAre("INTEL-SA-00289", "INTEL-SA-00615"));

  Policy policy = fitting(kSgxProd);
  EXPECT_TRUE(appraised(kSgxProd, policy).accepted);
  policy.sgx->tcb.tcb_statuses = {"UpToDate"};
  EXPECT_EQ(appraised(kSgxProd, policy).reason,
            "sgx: TCB status ConfigurationAndSWHardeningNeeded is not accepted by the policy");
  policy = fitting(kSgxProd);
  policy.sgx->tcb.advisories.erase("INTEL-SA-00615");
  EXPECT_EQ(appraised(kSgxProd, policy).reason, "sgx: advisory INTEL-SA-00615 applies, the policy does not accept it");
}

TEST_F(IntelVectors, EveryAlteredByteOfTheSignedPartIsRefused) {
  for (const Case& c : {kUpToDate, kSgxProd}) {
    SCOPED_TRACE(c.quote);
    const Policy policy = fitting(c);
    const Collateral given = collateral({c.collateral});
    Evidence bad = evidence(c.quote);
    const size_t signed_bytes = parse_quote(bad.report).signed_part.size();
    for (size_t i = 0; i < signed_bytes; ++i) {
      bad.report[i] ^= std::byte{1};
      const std::string reason = appraise(bad, given, policy, at_time(c.now), nullptr).reason;
      const bool is_checked_before = i < 8 || (i >= 12 && i < 28);  // version, key type, TEE, vendor
      EXPECT_THAT(reason, is_checked_before ? HasSubstr("quote: ") : HasSubstr("the quote's signature does not verify"))
          << "byte " << i;
      bad.report[i] ^= std::byte{1};
    }
  }
}

TEST_F(IntelVectors, EveryAlteredByteOfTheUnsignedPartsIsRefused) {
  for (const Case& c : {kUpToDate, kSgxProd}) {
    SCOPED_TRACE(c.quote);
    const Policy policy = fitting(c);
    const Collateral given = collateral({c.collateral});
    Evidence bad = evidence(c.quote);
    const Quote good = parse_quote(bad.report);
    const size_t key = good.signed_part.size() + 4 + 64, qe = key + 64 + (good.version == 3 ? 0 : 6);
    const auto reason_at = [&](size_t i) {
      bad.report[i] ^= std::byte{1};
      const std::string reason = appraise(bad, given, policy, at_time(c.now), nullptr).reason;
      bad.report[i] ^= std::byte{1};
      return reason;
    };
    for (size_t i = key - 64; i < key; ++i)
      EXPECT_THAT(reason_at(i), HasSubstr("the quote's signature does not verify"));
    for (size_t i = key; i < key + 64; ++i)
      EXPECT_THAT(reason_at(i), AnyOf(HasSubstr("no point of P-256"), HasSubstr("signature does not verify")));
    for (size_t i = qe; i < qe + 320; ++i) EXPECT_THAT(reason_at(i), HasSubstr("is not signed by the PCK key"));
    for (size_t i = qe + 320; i < qe + 384; ++i)
      EXPECT_THAT(reason_at(i), HasSubstr("does not bind the attestation key"));
    for (size_t i = qe + 384; i < qe + 448; ++i) EXPECT_THAT(reason_at(i), HasSubstr("is not signed by the PCK key"));
    for (size_t i = qe + 450; i < qe + 450 + good.qe_auth_data.size(); ++i)
      EXPECT_THAT(reason_at(i), HasSubstr("does not bind the attestation key"));
  }
}

TEST_F(IntelVectors, EveryTruncationIsRefused) {
  for (const char* name : {"tdx/v4_uptodate.quote.bin", "tdx/v5_td15_servicetd.quote.bin", "sgx/v3_prod.quote.bin"}) {
    SCOPED_TRACE(name);
    const Bytes whole = bytes(name);
    const Quote good = parse_quote(whole);
    const size_t size_offset = good.signed_part.size();
    const size_t structure =
        size_offset + 4 +
        (std::to_integer<size_t>(whole[size_offset]) | std::to_integer<size_t>(whole[size_offset + 1]) << 8U);
    ASSERT_LE(structure, whole.size());
    for (size_t size = 0; size < structure; ++size)
      EXPECT_THAT(message_of<InputError>([&] { parse_quote(ByteView(whole).first(size)); }), HasSubstr("cut short"))
          << size;
    // What comes after the structure is nobody's: never read.
    parse_quote(ByteView(whole).first(structure));
    Bytes longer(whole.begin(), whole.begin() + static_cast<long>(structure));
    longer.insert(longer.end(), 1000, std::byte{0xAA});
    EXPECT_EQ(parse_quote(longer).pck_chain, good.pck_chain);
  }
}

TEST_F(IntelVectors, SizesPastTheEndAreRefused) {
  for (const Case& c : {kUpToDate, kSgxProd}) {
    SCOPED_TRACE(c.quote);
    const Bytes whole = bytes(c.quote);
    const Quote good = parse_quote(whole);
    const size_t data = good.signed_part.size(), qe = data + 4 + 128 + (good.version == 3 ? 0 : 6);
    const size_t auth = qe + 384 + 64, chain = auth + 2 + good.qe_auth_data.size() + 2;
    const auto refusal = [&](size_t offset, size_t bytes_of_size, uint8_t fill) {
      Bytes bad = whole;
      for (size_t i = 0; i < bytes_of_size; ++i) bad[offset + i] = std::byte{fill};
      return message_of<InputError>([&] { parse_quote(bad); });
    };
    EXPECT_THAT(refusal(data, 4, 0xFF), HasSubstr("bytes of signature data, expected at most"));
    EXPECT_THAT(refusal(data + 1, 1, 0x7F), HasSubstr("cut short"));
    EXPECT_THAT(refusal(auth, 2, 0xFF), HasSubstr("QE authentication data, expected at most"));
    EXPECT_THAT(refusal(auth + 1, 1, 0x04), HasSubstr("authentication data"));
    EXPECT_THAT(refusal(chain, 4, 0xFF), HasSubstr("PCK chain of 4294967295 bytes, expected at most"));
    EXPECT_THAT(refusal(chain + 1, 1, 0x5F), HasSubstr("cut short"));
    EXPECT_THAT(refusal(chain, 1, 0x00), HasSubstr("after the PCK chain, expected none"));
    if (good.version > 3) {
      EXPECT_THAT(refusal(qe - 4, 4, 0xFF), HasSubstr("certification data of 4294967295 bytes"));
    }
  }
}

TEST_F(IntelVectors, PckChainsOfOtherQuotesAreRefused) {
  const std::vector<std::string> names = {"tdx/v4_uptodate.quote.bin", "tdx/v5_td15_servicetd.quote.bin",
                                          "tdx/v4_azure_paravisor.quote.bin", "sgx/v3_prod.quote.bin",
                                          "sgx/v3_DEBUG_occlum.quote.bin"};
  for (const std::string& one : names)
    for (const std::string& other : names) {
      if (one == other) continue;
      Quote mixed = quote(one);
      mixed.pck_chain = quote(other).pck_chain;
      EXPECT_THAT(message_of<AttestationError>([&] { verify_quote(mixed, pinned_vendor_roots(), at("2025-06-01")); }),
                  HasSubstr("is not signed by the PCK key"))
          << one << " with the chain of " << other;
    }
}

TEST_F(IntelVectors, AlteredOrMissingCollateralIsRefused) {
  const Policy policy = fitting(kUpToDate);
  const auto reason = [&](const std::function<void(Collateral&)>& alter) {
    Collateral given = collateral({kUpToDate.collateral});
    alter(given);
    return appraise(evidence(kUpToDate.quote), given, policy, at_time(kUpToDate.now), nullptr).reason;
  };
  EXPECT_EQ(reason([](Collateral&) {}), "");
  EXPECT_THAT(reason([](Collateral& c) { c.tcb_infos.clear(); }), HasSubstr("no TCB info for platform b0c06f000000"));
  EXPECT_THAT(reason([](Collateral& c) { c.qe_identities.clear(); }), HasSubstr("no QE identity in the collateral"));
  EXPECT_THAT(reason([](Collateral& c) { c.revocation_lists.clear(); }), HasSubstr("unable to get certificate CRL"));
  EXPECT_THAT(reason([](Collateral& c) { c.revocation_lists.erase(c.revocation_lists.begin()); }),
              HasSubstr("unable to get certificate CRL"));
  EXPECT_THAT(reason([](Collateral& c) { c.certificates.clear(); }), HasSubstr("any TCB signing certificate"));
  EXPECT_THAT(reason([](Collateral& c) { c.tcb_infos[0].signature[40] ^= std::byte{1}; }),
              HasSubstr("TCB info: its signature does not verify"));
  EXPECT_THAT(reason([](Collateral& c) { c.tcb_infos[0].text += ' '; }), HasSubstr("TCB info: its signature"));
  EXPECT_THAT(reason([](Collateral& c) { c.qe_identities[0].text += ' '; }), HasSubstr("QE identity: its signature"));
  // A list of the same issuer, cut out of another time, with one byte changed.
  EXPECT_THAT(reason([](Collateral& c) { c.revocation_lists[0].back() ^= std::byte{1}; }),
              HasSubstr("CRL signature failure"));
}

TEST_F(IntelVectors, CollateralOlderThanSeenIsRefused) {
  const Policy policy = fitting(kUpToDate);
  SeenCollateral seen;
  const auto run = [&] {
    return appraise(evidence(kUpToDate.quote), collateral({kUpToDate.collateral}), policy, at_time(kUpToDate.now),
                    &seen);
  };
  EXPECT_TRUE(run().accepted);
  EXPECT_EQ(seen.items().size(), 4u);
  EXPECT_TRUE(run().accepted) << "the same again";
  for (const auto& [item, version] : std::map(seen.items())) {
    SCOPED_TRACE(item);
    const SeenCollateral before = seen;
    seen.remember(item, {version.number + 1, version.issued});
    EXPECT_THAT(run().reason, HasSubstr(item + ": number"));
    seen = before;
    seen.remember(item, {version.number, version.issued + std::chrono::seconds(1)});
    EXPECT_THAT(run().reason, HasSubstr(item + ": issued"));
    seen = before;
  }
}

}  // namespace intel_vectors_test
}  // namespace tempo::attest
