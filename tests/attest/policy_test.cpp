#include "attest/policy.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "attest/crypto/json.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace policy_test {

using ::testing::HasSubstr;
using testing::message_of;

Policy parse(const std::string& text) { return parse_policy(as_view(text), "p.json"); }
std::string refusal(const std::string& text) {
  return message_of<InputError>([&] { parse(text); });
}
std::string refusal(const Json& json) { return refusal(json.dump()); }

Json tcb() { return {{"bootloader", 4}, {"tee", 0}, {"snp", 24}, {"microcode", 219}}; }
/// The least that each TEE's section must say.
Json least() {
  return {{"version", 1},
          {"sev-snp",
           {{"measurements", {std::string(96, 'a')}},
            {"products", {"milan"}},
            {"minimum_reported_tcb", tcb()},
            {"minimum_committed_tcb", tcb()},
            {"minimum_launch_tcb", tcb()}}},
          {"tdx", {{"mrtd", {std::string(96, 'b')}}}},
          {"sgx", {{"mrenclave", {std::string(64, 'c')}}}},
          {"insecure-simulated", {{"measurements", {std::string(64, 'd')}}}}};
}

TEST(Policy, AbsentFieldsMeanTheStrictestSetting) {
  const Policy policy = parse(least().dump());
  EXPECT_EQ(policy.sev_snp->maximum_vmpl, 0u);
  EXPECT_EQ(policy.sev_snp->host_data, (Allowed<Digest32>{}));
  EXPECT_FALSE(policy.sev_snp->allow_vlek);
  EXPECT_FALSE(policy.sev_snp->allow_provisional_firmware);
  EXPECT_TRUE(policy.sev_snp->allowed_guest_policy.empty());
  EXPECT_EQ(policy.sev_snp->minimum_launch_tcb.microcode, 219);
  EXPECT_TRUE(policy.tdx->allowed_attributes.empty());
  EXPECT_EQ(policy.tdx->tcb.tcb_statuses, std::set<std::string>{"UpToDate"});
  EXPECT_TRUE(policy.tdx->tcb.advisories.empty());
  for (const auto& rtmr : policy.tdx->rtmr) EXPECT_EQ(rtmr, (Allowed<Digest48>{}));
  EXPECT_TRUE(policy.sgx->allowed_attributes.empty());
  EXPECT_TRUE(policy.config_hashes.empty());
  EXPECT_FALSE(policy.maximum_collateral_age_days.has_value());
  EXPECT_FALSE(policy.allow_unprotected);
}

TEST(Policy, TextBehindAPolicyIsRefused) {
  const std::string text = least().dump();
  parse(text + "\n");
  EXPECT_THAT(refusal(text + "junk"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(text + std::string("\0junk", 5)), HasSubstr("is NUL, expected text in UTF-8"));
  EXPECT_THAT(refusal(text + std::string("\0", 1)), HasSubstr("is NUL, expected text in UTF-8"));
}

TEST(Policy, APolicyRoundTrips) {
  Policy policy = parse(least().dump());
  EXPECT_EQ(parse(to_json(policy)), policy);
  SnpPolicy& snp = *policy.sev_snp;
  snp.maximum_vmpl = 3;
  snp.host_data.any = true;
  snp.allow_vlek = snp.allow_provisional_firmware = snp.require_crl = true;
  snp.allowed_guest_policy = {"smt", "cxl"};
  snp.required_guest_policy = {"aes-256-xts"};
  snp.required_platform = {"ecc", "smt-disabled"};
  snp.required_mitigations = UINT64_MAX;
  snp.minimum_guest_svn = UINT32_MAX;
  snp.id_keys = snp.author_keys = {Digest48{}};
  snp.family_ids = snp.image_ids = {Digest16{}};
  snp.chip_ids = {Digest64{}};
  policy.tdx->rtmr[3].any = true;
  policy.tdx->rtmr[1].values = {Digest48{}};
  policy.tdx->minimum_tee_tcb_svn[4] = std::byte{9};
  policy.tdx->tcb.advisories = {"INTEL-SA-1"};
  policy.tdx->tcb.platform_instance_ids = {Digest16{}};
  policy.sgx->signers = {{Digest32{}, 1, 2}};
  policy.sgx->config_id.any = true;
  policy.config_hashes = {Digest32{}};
  policy.maximum_collateral_age_days = 30;
  policy.allow_unprotected = true;
  EXPECT_EQ(parse(to_json(policy)), policy);
}

TEST(Policy, AMissingRequiredFieldIsRefused) {
  for (const auto& [section, fields] : std::map<std::string, std::vector<std::string>>{
           {"sev-snp",
            {"measurements", "products", "minimum_reported_tcb", "minimum_committed_tcb", "minimum_launch_tcb"}},
           {"tdx", {"mrtd"}},
           {"insecure-simulated", {"measurements"}}})
    for (const std::string& field : fields) {
      Json json = least();
      json[section].erase(field);
      EXPECT_EQ(refusal(json), fmt::format("p.json: {}: {}: is missing", section, field));
      if (!least()[section][field].is_array()) continue;
      json[section][field] = Json::array();
      EXPECT_EQ(refusal(json), fmt::format("p.json: {}: {}: is empty, expected at least one", section, field));
    }
  Json json = least();
  json["sgx"] = Json::object();
  EXPECT_EQ(refusal(json), "p.json: sgx: names no enclave, expected mrenclave or signers");
  json = least();
  json["sev-snp"]["minimum_launch_tcb"].erase("snp");
  EXPECT_EQ(refusal(json), "p.json: sev-snp: minimum_launch_tcb: snp: is missing");
  EXPECT_EQ(refusal(Json{{"version", 1}}), "p.json: names no TEE, expected sev-snp, tdx or sgx");
}

TEST(Policy, MistakesAreRefusedAndTheFieldNamed) {
  const auto with = [](const std::string& section, const std::string& field, const Json& value) {
    Json json = least();
    json[section][field] = value;
    return refusal(json);
  };
  EXPECT_EQ(with("sev-snp", "mesurements", 1), "p.json: sev-snp: unknown key \"mesurements\"");
  EXPECT_EQ(with("sev-snp", "maximum_vmpl", -1),
            "p.json: sev-snp: maximum_vmpl: expected a whole number from 0 to 4294967295");
  EXPECT_EQ(with("sev-snp", "maximum_vmpl", 1.0),
            "p.json: sev-snp: maximum_vmpl: expected a whole number from 0 to 4294967295");
  EXPECT_EQ(with("sev-snp", "allow_vlek", 1), "p.json: sev-snp: allow_vlek: expected true or false");
  EXPECT_EQ(with("sev-snp", "products", {"rome"}),
            "p.json: sev-snp: products: got \"rome\", expected genoa, milan, turin");
  EXPECT_EQ(with("sev-snp", "measurements", {"ab"}),
            "p.json: sev-snp: measurements: got \"ab\", expected 96 hexadecimal digits");
  EXPECT_THAT(with("sev-snp", "measurements", {std::string(96, 'g')}), HasSubstr("expected 96 hexadecimal digits"));
  EXPECT_EQ(with("sev-snp", "measurements", {1}), "p.json: sev-snp: measurements: expected a list of texts");
  EXPECT_EQ(with("sev-snp", "measurements", "ab"), "p.json: sev-snp: measurements: expected a list of at most 1000");
  EXPECT_EQ(with("sev-snp", "host_data", "all"), "p.json: sev-snp: host_data: expected a list of at most 1000");
  EXPECT_THAT(with("sev-snp", "allowed_guest_policy", {"debug"}), HasSubstr("got \"debug\", expected cxl"));
  EXPECT_THAT(with("tdx", "allowed_attributes", {"debug"}), HasSubstr("got \"debug\", expected key-locker"));
  EXPECT_THAT(with("sgx", "allowed_attributes", {"debug"}), HasSubstr("got \"debug\", expected aex-notify"));
  EXPECT_THAT(with("tdx", "tcb_statuses", {"Revoked"}), HasSubstr("got \"Revoked\", expected Configuration"));
  EXPECT_THAT(with("sgx", "signers", {{{"mrsigner", std::string(64, 'a')}}}), HasSubstr("product_id: is missing"));
  EXPECT_THAT(with("tdx", "mrtd", Json(std::vector<std::string>(1001, std::string(96, 'a')))),
              HasSubstr("at most 1000"));
  EXPECT_EQ(refusal(std::string("{\"version\":2}")), "p.json: policy of version 2, expected 1");
  EXPECT_EQ(refusal(std::string("{\"version\":1,\"tdxx\":{}}")), "p.json: unknown key \"tdxx\"");
  EXPECT_EQ(refusal(std::string("{\"version\":1,\"version\":1}")), "p.json: the key \"version\" is there twice");
  EXPECT_THAT(refusal(std::string("{\"version\":1")), HasSubstr("p.json: not JSON"));
  EXPECT_EQ(refusal(std::string("[]")), "p.json: expected a JSON object");
  EXPECT_THAT(refusal("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}"), HasSubstr("deeper than 16"));
  EXPECT_THAT(message_of<InputError>([] { parse_policy(Bytes(kMaxPolicyBytes + 1), "p"); }), HasSubstr("at most"));
}

}  // namespace policy_test
}  // namespace tempo::attest
