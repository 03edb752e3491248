#include "attest/evidence.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <functional>

#include "attest/appraisal.h"
#include "attest/crypto/json.h"
#include "attest/hcl_blob.h"
#include "attest/simulated.h"
#include "attest/synthetic_intel.h"
#include "attest/synthetic_snp.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace evidence_test {

using ::testing::HasSubstr;
using testing::message_of;
using testing::to_bytes;

Evidence parse(const std::string& text) { return parse_evidence(as_view(text), "e"); }
std::string refusal(ByteView bytes) {
  return message_of<InputError>([&] { parse_evidence(bytes, "e"); });
}
std::string refusal_of(const Json& json) { return refusal(as_view(json.dump())); }

TEST(Evidence, BundlesRoundTrip) {
  for (const Tee tee : {Tee::kSevSnp, Tee::kTdx, Tee::kSgx, Tee::kInsecureSimulated}) {
    EXPECT_EQ(tee_of_name(name_of(tee)), tee);
    Evidence evidence{tee, to_bytes("report"), {to_bytes("one"), to_bytes("")}, {}};
    EXPECT_EQ(parse(to_json(evidence)), evidence);
    EXPECT_EQ(parse("\n  " + to_json(evidence) + "\n"), evidence);
    evidence.runtime_data = to_bytes("claims");
    EXPECT_EQ(parse(to_json(evidence)), evidence);
  }
  EXPECT_FALSE(tee_of_name("SEV-SNP").has_value());
}

TEST(Evidence, TheTeeOfARawReportIsRecognised) {
  const testing::SyntheticAmd amd;
  const testing::SyntheticIntel intel;
  const auto tee_of = [](const Evidence& evidence) { return parse_evidence(evidence.report, "e"); };
  for (Evidence evidence : {amd.evidence(), intel.evidence({.version = 3}), intel.evidence({.version = 4}),
                            intel.evidence({.version = 5})}) {
    evidence.certificates.clear();
    EXPECT_EQ(tee_of(evidence), evidence);
  }
  EXPECT_EQ(parse_evidence(make_insecure_simulated_report({}), "e").tee, Tee::kInsecureSimulated);
  EXPECT_THAT(refusal(Bytes(1184, std::byte{0xFF})), HasSubstr("neither an evidence bundle nor"));
  EXPECT_THAT(refusal(Bytes{}), HasSubstr("neither"));
  EXPECT_THAT(refusal(Bytes(kMaxEvidenceBytes + 1)), HasSubstr("expected at most 1048576"));
  Bytes long_quote = intel.quote();
  long_quote.resize(kMaxReportBytes + 1);
  EXPECT_THAT(refusal(long_quote), HasSubstr("expected at most 65536"));
}

TEST(Evidence, MalformedBundlesAreRefusedAndTheFieldNamed) {
  const Json good = {{"tee", "tdx"}, {"report", "AAAA"}, {"certificates", Json::array()}};
  const auto with = [&](const char* field, const Json& value) {
    Json json = good;
    json[field] = value;
    return refusal_of(json);
  };
  EXPECT_EQ(with("tee", "tpm"), "e: tee: got \"tpm\", expected sev-snp, tdx, sgx or insecure-simulated");
  EXPECT_EQ(with("report", "AAA"), "e: report: not base64");
  for (const char* short_text : {"A", "AA", "=", "==="}) EXPECT_EQ(with("report", short_text), "e: report: not base64");
  EXPECT_EQ(with("report", "AA-A"), "e: report: not base64");
  EXPECT_EQ(with("report", "AA\nAA"), "e: report: not base64");
  EXPECT_THAT(with("report", std::string(4 * 21846, 'A')), HasSubstr("e: report: 65538 bytes, expected at most 65536"));
  EXPECT_THAT(with("report", std::string(200000, 'A')), HasSubstr("e: report: expected a text of at most"));
  EXPECT_EQ(with("certificates", Json(std::vector<std::string>(17, "AAAA"))),
            "e: certificates: expected a list of at most 16");
  EXPECT_EQ(with("certificates", {1}), "e: certificates: expected texts");
  EXPECT_EQ(with("nonce", 1), "e: unknown key \"nonce\"");
  for (const char* field : {"tee", "report", "certificates"}) {
    Json json = good;
    json.erase(field);
    EXPECT_EQ(refusal_of(json), fmt::format("e: {}: is missing", field));
  }
}

Bytes hcl_blob(uint32_t version, uint32_t type, uint32_t hash, uint32_t size, const std::string& claims) {
  Bytes blob(0x4C0);
  testing::put(blob, 0, as_view("HCLA"));
  for (const uint32_t value : {0U, version, type, hash, size}) testing::append_little_endian(blob, value, 4);
  const ByteView text = as_view(claims);
  blob.insert(blob.end(), text.begin(), text.end());
  return blob;
}

TEST(Evidence, ReportAndClaimsAreReadFromHclBlobs) {
  const Evidence evidence = parse_evidence(hcl_blob(1, 2, 1, 2, "{}junk"), "e");
  EXPECT_EQ(evidence.tee, Tee::kSevSnp);
  EXPECT_EQ(evidence.report.size(), 1184u);
  EXPECT_EQ(evidence.runtime_data, to_bytes("{}"));
  EXPECT_THAT(refusal(hcl_blob(1, 4, 1, 2, "{}")), HasSubstr("expected the quote made from it"));
  EXPECT_EQ(refusal(hcl_blob(2, 2, 1, 2, "{}")), "e: HCL runtime data of version 2, expected 1");
  EXPECT_EQ(refusal(hcl_blob(1, 3, 1, 2, "{}")), "e: HCL report of type 3, expected 2 (SEV-SNP) or 4 (TDX)");
  EXPECT_EQ(refusal(hcl_blob(1, 2, 2, 2, "{}")), "e: HCL claims hashed by 2, expected 1 (SHA-256)");
  EXPECT_THAT(refusal(hcl_blob(1, 2, 1, 3, "{}")), HasSubstr("cut short"));
  EXPECT_THAT(refusal(hcl_blob(1, 2, 1, UINT32_MAX, "{}")), HasSubstr("4294967295 bytes of HCL claims"));
  const Bytes whole = hcl_blob(1, 2, 1, 2, "{}");
  for (size_t size = 4; size < whole.size(); ++size)
    EXPECT_THAT(refusal(ByteView(whole).first(size)), HasSubstr("cut short")) << size;
}

class InsecureSimulatedTee : public ::testing::Test {
 protected:
  InsecureSimulatedTee() {
    measurement_.fill(std::byte{7});
    policy_.insecure_simulated.emplace().measurements = {measurement_};
    evidence_ = {Tee::kInsecureSimulated, make_insecure_simulated_report({measurement_, ReportData{}}), {}, {}};
  }
  Appraisal appraised() const { return appraise(evidence_, {}, policy_, expected_, nullptr); }

  Digest32 measurement_{};
  Policy policy_;
  Expected expected_;
  Evidence evidence_;
};

TEST_F(InsecureSimulatedTee, ASimulatedTeeIsAcceptedByAPolicyThatNamesIt) {
  const Appraisal good = appraised();
  EXPECT_TRUE(good.accepted) << good.reason;
  const Json ear = parse_json_object(good.ear_json, "ear")["submods"]["insecure-simulated"];
  EXPECT_EQ(ear["ear.status"], "none") << "nothing affirms what is no hardware";
  EXPECT_EQ(ear["ear.trustworthiness-vector"]["hardware"], 0);
  EXPECT_EQ(ear["tempo.claims-verified"], false);
}

TEST_F(InsecureSimulatedTee, ASimulatedTeeIsRefusedByEveryPolicyThatDoesNotNameIt) {
  const auto given = policy_.insecure_simulated;
  policy_.insecure_simulated.reset();
  policy_.sev_snp.emplace().measurements = {Digest48{}};
  policy_.tdx.emplace().mrtd = {Digest48{}};
  policy_.sgx.emplace().mrenclave = {measurement_};
  EXPECT_EQ(appraised().reason, "insecure-simulated: the policy does not name this TEE");
  // Nor under another TEE's name.
  for (const auto& [tee, reason] : {std::pair(Tee::kSevSnp, "sev-snp report: 216 bytes, expected 1184"),
                                    {Tee::kTdx, "quote: version 28265, expected 3 to 5"},
                                    {Tee::kSgx, "quote: version 28265, expected 3 to 5"}}) {
    evidence_.tee = tee;
    EXPECT_EQ(appraised().reason, reason);
  }
  policy_.insecure_simulated = given;
}

TEST_F(InsecureSimulatedTee, EveryAlteredOrMissingByteIsRefused) {
  const Bytes good = evidence_.report;
  for (size_t i = 0; i < good.size(); ++i) {
    evidence_.report = good;
    evidence_.report[i] ^= std::byte{1};
    EXPECT_THAT(appraised().reason, i < 24 ? HasSubstr("begins with something else") : HasSubstr("does not verify"))
        << i;
  }
  for (size_t size = 0; size < good.size(); ++size) {
    evidence_.report.assign(good.begin(), good.begin() + static_cast<long>(size));
    EXPECT_THAT(appraised().reason, HasSubstr("cut short"));
  }
  evidence_.report = good;
  evidence_.report.push_back(std::byte{0});
  EXPECT_THAT(appraised().reason, HasSubstr("bytes after its signature"));
}

TEST_F(InsecureSimulatedTee, EvidenceOverTheCapsIsRefused) {
  const Evidence good = evidence_;
  const std::vector<std::function<void(Evidence&)>> enlarge = {
      [](Evidence& e) { e.report.resize(kMaxReportBytes + 1); },
      [](Evidence& e) { e.certificates.resize(kMaxCertificates + 1); },
      [](Evidence& e) { e.certificates.emplace_back(kMaxCertificateBytes + 1); },
      [](Evidence& e) { e.runtime_data.resize(kMaxRuntimeDataBytes + 1); }};
  for (const auto& make_larger : enlarge) {
    evidence_ = good;
    make_larger(evidence_);
    EXPECT_EQ(appraised().reason, "insecure-simulated: the evidence is larger than any real one");
  }
}

TEST_F(InsecureSimulatedTee, OtherMeasurementsAndReportDataAreRefused) {
  policy_.insecure_simulated->measurements = {Digest32{}};
  EXPECT_THAT(appraised().reason, HasSubstr("insecure-simulated: measurement 0707"));
  policy_.insecure_simulated->measurements.push_back(measurement_);
  expected_.report_data.emplace().fill(std::byte{1});
  EXPECT_THAT(appraised().reason, HasSubstr("report_data is not what was asked for"));
}

}  // namespace evidence_test
}  // namespace tempo::attest
