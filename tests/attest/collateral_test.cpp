#include "attest/collateral.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "attest/crypto/json.h"
#include "attest/report_data.h"
#include "attest/seen_collateral.h"
#include "attest/synthetic_intel.h"
#include "attest/vendor_roots.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace collateral_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::SizeIs;
using testing::TempFolder;
using testing::to_pem;
using testing::write_text;

Collateral parse(std::string_view text) { return parse_collateral(as_view(text), "c"); }
std::string refusal(std::string_view text) {
  return message_of<InputError>([&] { parse(text); });
}

class CollateralFile : public ::testing::Test {
 protected:
  /// As files of Intel's collateral come.
  Json bundle() const {
    const SignedJson info = intel_.signed_json(testing::SyntheticIntel::tcb_info(true).dump());
    const std::string chain = to_pem(intel_.tcb_certificate.get()) + to_pem(intel_.root_certificate.get());
    return {{"tcb_info", info.text},
            {"tcb_info_signature", to_hex(info.signature)},
            {"tcb_info_issuer_chain", chain},
            {"root_ca_crl", to_hex(intel_.root.revocation_list())}};
  }
  const testing::SyntheticIntel intel_;
};

TEST_F(CollateralFile, ABundleIsRead) {
  const Collateral found = parse(bundle().dump());
  EXPECT_THAT(found.certificates,
              ElementsAre(to_der(intel_.tcb_certificate.get()), to_der(intel_.root_certificate.get())));
  EXPECT_THAT(found.revocation_lists, SizeIs(1));
  ASSERT_THAT(found.tcb_infos, SizeIs(1));
  EXPECT_EQ(found.tcb_infos[0].text, testing::SyntheticIntel::tcb_info(true).dump());
  EXPECT_TRUE(found.qe_identities.empty());
}

TEST_F(CollateralFile, SignedAnswersKeepTheBytesThatWereSigned) {
  // Spaces and order are part of what was signed; braces and quotes in texts end nothing.
  const std::string body = R"({ "z" : "}\",{", "a":[1, {"b" : "]"}] ,"n":-1})";
  const std::string signature(128, '5');
  for (const std::string& text : {"{\"tcbInfo\":" + body + ",\"signature\":\"" + signature + "\"}",
                                  "\n{ \"signature\" : \"" + signature + "\" , \"tcbInfo\" :  " + body + "  }  "}) {
    const Collateral found = parse(text);
    ASSERT_THAT(found.tcb_infos, SizeIs(1));
    EXPECT_EQ(found.tcb_infos[0].text, body);
    EXPECT_EQ(to_hex(found.tcb_infos[0].signature), signature);
  }
  EXPECT_THAT(parse("{\"enclaveIdentity\":{},\"signature\":\"" + signature + "\"}").qe_identities, SizeIs(1));
  EXPECT_THAT(refusal("{\"tcbInfo\":{},\"tcbInfo\":{},\"signature\":\"\"}"), HasSubstr("is there twice"));
  EXPECT_THAT(refusal("{\"tcb\\u0049nfo\":{},\"signature\":\"" + signature + "\"}"), HasSubstr("tcbInfo is missing"));
  EXPECT_THAT(refusal("{\"tcbInfo\":{},\"signature\":\"" + signature + "\",\"x\":1}"), HasSubstr("unknown key \"x\""));
  EXPECT_THAT(refusal("{\"tcbInfo\":{},\"signature\":\"55\"}"), HasSubstr("expected 128 hexadecimal digits"));
}

TEST_F(CollateralFile, CertificatesAndListsAreReadAsPemAndDer) {
  const Bytes certificate = to_der(intel_.root_certificate.get()), list = intel_.root.revocation_list();
  EXPECT_THAT(parse(to_pem(intel_.root_certificate.get())).certificates, ElementsAre(certificate));
  EXPECT_THAT(parse_collateral(certificate, "c").certificates, ElementsAre(certificate));
  EXPECT_THAT(parse_collateral(list, "c").revocation_lists, ElementsAre(list));
  const std::string pem = fmt::format("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", to_base64(list));
  EXPECT_THAT(parse(pem).revocation_lists, ElementsAre(list));
}

TEST_F(CollateralFile, OtherFormatsAreRefused) {
  EXPECT_EQ(refusal(""), "c: neither a certificate nor a revocation list in DER");
  EXPECT_EQ(refusal("hello"), "c: neither a certificate nor a revocation list in DER");
  Bytes longer = to_der(intel_.root_certificate.get());
  longer.push_back(std::byte{0});
  EXPECT_THAT(message_of<InputError>([&] { parse_collateral(longer, "c"); }), HasSubstr("neither"));
  EXPECT_EQ(refusal("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"), "c: malformed PEM");
  EXPECT_EQ(refusal("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "c: PEM block \"PRIVATE KEY\", expected certificates and revocation lists");
  std::string many;
  for (int i = 0; i < 65; ++i) many += to_pem(intel_.root_certificate.get());
  EXPECT_EQ(refusal(many), "c: more than 64 PEM blocks, expected at most that");
  Json json = bundle();
  json["root_ca_crl"] = "0g";
  EXPECT_THAT(refusal(json.dump()), HasSubstr("c: root_ca_crl: got \"0g\""));
  json = bundle();
  json.erase("tcb_info_signature");
  EXPECT_EQ(refusal(json.dump()), "c: tcb_info_signature: is missing");
  json = bundle();
  json["extra"] = 1;
  EXPECT_EQ(refusal(json.dump()), "c: unknown key \"extra\"");
  EXPECT_THAT(message_of<InputError>([&] { parse_collateral(Bytes(kMaxCollateralBytes + 1), "c"); }),
              HasSubstr("at most"));
}

TEST(SeenCollateral, RememberedNumbersAreKeptInAFileAndNeverLowered) {
  const TempFolder folder;
  const auto path = folder / "seen.json";
  EXPECT_TRUE(SeenCollateral::load(path).items().empty());
  SeenCollateral seen;
  seen.remember("tcb-info tdx aa", {17, parse_utc("2025-06-01", "t")});
  seen.remember("tcb-info tdx aa", {16, parse_utc("2025-07-01", "t")});
  seen.save(path);
  const SeenCollateral again = SeenCollateral::load(path);
  EXPECT_EQ(again.items(), seen.items());
  EXPECT_EQ(again.items().at("tcb-info tdx aa").number, 17u);
  again.check("tcb-info tdx aa", {17, parse_utc("2025-07-01", "t")});
  again.check("tcb-info tdx bb", {1, {}});
  EXPECT_EQ(message_of<AttestationError>([&] {
              again.check("tcb-info tdx aa", {16, parse_utc("2025-08-01", "t")});
            }),
            "tcb-info tdx aa: number 16 is lower than 17, which was seen before");
  EXPECT_EQ(message_of<AttestationError>([&] {
              again.check("tcb-info tdx aa", {18, parse_utc("2025-06-30", "t")});
            }),
            "tcb-info tdx aa: issued 2025-06-30T00:00:00Z, before 2025-07-01T00:00:00Z, which was seen before");
}

TEST(SeenCollateral, AFileOfAnotherFormatIsRefused) {
  const TempFolder folder;
  const auto refusal_of = [&](const char* text) {
    write_text(folder / "s", text);
    return message_of<InputError>([&] { SeenCollateral::load(folder / "s"); });
  };
  EXPECT_THAT(refusal_of(""), HasSubstr("not JSON"));
  EXPECT_THAT(refusal_of(R"({"version":2,"seen":{}})"), HasSubstr("version 2, expected 1"));
  EXPECT_THAT(refusal_of(R"({"version":1,"seen":[]})"), HasSubstr("expected an object"));
  EXPECT_THAT(refusal_of(R"({"version":1,"seen":{"a":{"number":1,"issued":"x"}}})"), HasSubstr("expected a time"));
  EXPECT_THAT(refusal_of(R"({"version":1,"seen":{"a":{"number":-1,"issued":"2025-01-01"}}})"), HasSubstr("number"));
}

TEST(VendorRoots, PinnedRootsHaveThePublishedHashes) {
  const auto hash = [](const UniqueX509& certificate) { return to_hex(sha256(to_der(certificate.get()))); };
  const VendorRoots& roots = pinned_vendor_roots();
  EXPECT_EQ(hash(roots.intel), "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3");
  ASSERT_THAT(roots.amd, SizeIs(3));
  EXPECT_EQ(hash(roots.amd[0].ark), "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd");
  EXPECT_EQ(hash(roots.amd[1].ark), "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1");
  EXPECT_EQ(hash(roots.amd[2].ark), "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a");
  for (const AmdProduct& product : roots.amd)
    for (X509* issuer : {product.ask.get(), product.asvk.get()})
      EXPECT_EQ(X509_verify(issuer, X509_get0_pubkey(product.ark.get())), 1) << product.name;
}

class BindReportData : public ::testing::Test {
 protected:
  static Bytes part(uint8_t value, size_t size) { return Bytes(size, std::byte{value}); }
  const Bytes nonce_ = part(1, 32), spki_ = part(2, 91), release_ = part(3, 32), exporter_ = part(4, 32),
              config_ = part(5, 32);
  ReportDataBinding binding_{nonce_, spki_, release_, exporter_, config_};
};

TEST_F(BindReportData, ReportDataDependsOnEveryPart) {
  const ReportData good = bind_report_data(binding_);
  EXPECT_EQ(bind_report_data(binding_), good);
  // Computed apart from this code: whoever changes the layout changes its label, and docs/formats/evidence.md.
  EXPECT_EQ(to_hex(good),
            "d58911472bbe668349edd2049b0abb9ca22d5ac23e54f4df61b538ccd18ddd0f32bdb7d67e15bc84267b013a2b59e61df0ffe6efbe"
            "74e329649eb25cabd044a7");
  for (ByteView ReportDataBinding::*field :
       {&ReportDataBinding::nonce, &ReportDataBinding::spki, &ReportDataBinding::release_public_key,
        &ReportDataBinding::tls_exporter, &ReportDataBinding::config_hash}) {
    ReportDataBinding other = binding_;
    Bytes changed((other.*field).begin(), (other.*field).end());
    changed.back() ^= std::byte{1};
    other.*field = changed;
    EXPECT_NE(bind_report_data(other), good);
  }
  // Nor does a byte pass from one part to the next unseen.
  Bytes longer = spki_, shorter = release_;
  longer.push_back(shorter.front());
  shorter.erase(shorter.begin());
  binding_.spki = longer;
  binding_.release_public_key = shorter;
  EXPECT_NE(bind_report_data(binding_), good);
}

TEST_F(BindReportData, PartsOfOtherSizesAreRefused) {
  const auto refusal_of = [&](ByteView ReportDataBinding::*field, const Bytes& value) {
    ReportDataBinding other = binding_;
    other.*field = value;
    return message_of<InputError>([&] { bind_report_data(other); });
  };
  EXPECT_EQ(refusal_of(&ReportDataBinding::nonce, part(1, 31)), "report data: nonce of 31 bytes, expected 32");
  EXPECT_EQ(refusal_of(&ReportDataBinding::tls_exporter, {}), "report data: TLS exporter of 0 bytes, expected 32");
  EXPECT_EQ(refusal_of(&ReportDataBinding::config_hash, part(1, 33)),
            "report data: config hash of 33 bytes, expected 32");
  EXPECT_EQ(refusal_of(&ReportDataBinding::spki, {}), "report data: public key of TLS of 0 bytes, expected 1 to 8192");
  EXPECT_EQ(refusal_of(&ReportDataBinding::release_public_key, part(1, 8193)),
            "report data: public key for release of 8193 bytes, expected 1 to 8192");
}

TEST(Utc, TimesRoundTripAndOtherTextIsRefused) {
  EXPECT_EQ(to_text(parse_utc("2025-07-01T10:16:03Z", "t")), "2025-07-01T10:16:03Z");
  EXPECT_EQ(to_text(parse_utc("2024-02-29", "t")), "2024-02-29T00:00:00Z");
  EXPECT_EQ(parse_utc("1970-01-02", "t").time_since_epoch().count(), 86400);
  for (const char* bad :
       {"", "2025", "2025-02-29", "2025-13-01", "2025-00-01", "2025-01-01T24:00:00Z", "2025-01-01T00:60:00Z",
        "2025-01-01 00:00:00Z", "2025-01-01T00:00:00", "2025-01-01T00:00:00+01", "+025-01-01", "2025-1-011"})
    EXPECT_THAT(message_of<InputError>([&] { parse_utc(bad, "t"); }), HasSubstr("expected a time")) << bad;
}

}  // namespace collateral_test
}  // namespace tempo::attest
