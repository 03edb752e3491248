#include "attest/evidence.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "attest/crypto/json.h"
#include "attest/hcl_blob.h"
#include "attest/simulated.h"
#include "attest/snp/report.h"
#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr std::array<std::pair<Tee, std::string_view>, 4> kNames = {{{Tee::kSevSnp, "sev-snp"},
                                                                     {Tee::kTdx, "tdx"},
                                                                     {Tee::kSgx, "sgx"},
                                                                     {Tee::kInsecureSimulated, "insecure-simulated"}}};
constexpr size_t kQuoteHeaderBytes = 48;
constexpr uint32_t kMaxPlausibleSnpVersion = 64;
/// Of Intel's quoting enclave, in every quote at offset 12.
constexpr std::string_view kIntelVendor = "939a7233f79c4ca9940a0db3957f0607";

/// Which TEE a raw report is of. Nothing else is checked here.
std::optional<Tee> recognise(ByteView bytes) {
  if (is_insecure_simulated_report(bytes)) return Tee::kInsecureSimulated;
  if (bytes.size() >= kQuoteHeaderBytes && to_hex(bytes.subspan(12, 16)) == kIntelVendor)
    return bytes[4] == std::byte{0} ? Tee::kSgx : Tee::kTdx;
  if (bytes.size() == kSnpReportBytes && ByteReader(bytes, "report").u32() < kMaxPlausibleSnpVersion)
    return Tee::kSevSnp;
  return std::nullopt;
}

Evidence parse_bundle(ByteView bytes, const std::string& source) {
  const Json json = parse_json_object(as_text(bytes), source);
  JsonFields fields(json, source);
  Evidence evidence;
  const std::string name = fields.text("tee");
  const auto tee = tee_of_name(name);
  if (!tee)
    throw InputError(fmt::format("{}: got {}, expected sev-snp, tdx, sgx or insecure-simulated", fields.name("tee"),
                                 quote_untrusted(name, 32)));
  evidence.tee = *tee;
  evidence.report = from_base64(fields.text("report", 2 * kMaxReportBytes), kMaxReportBytes, fields.name("report"));
  for (const Json& item : fields.array("certificates", kMaxCertificates)) {
    if (!item.is_string()) throw InputError(fmt::format("{}: expected texts", fields.name("certificates")));
    evidence.certificates.push_back(
        from_base64(item.get_ref<const std::string&>(), kMaxCertificateBytes, fields.name("certificates")));
  }
  if (fields.find("runtime_data") != nullptr)
    evidence.runtime_data = from_base64(fields.text("runtime_data", 2 * kMaxRuntimeDataBytes), kMaxRuntimeDataBytes,
                                        fields.name("runtime_data"));
  fields.refuse_others();
  return evidence;
}

Evidence parse_hcl(ByteView bytes, const std::string& source) {
  const HclBlob blob = parse_hcl_blob(bytes, source);
  if (blob.tee != Tee::kSevSnp)
    throw InputError(
        fmt::format("{}: holds a TD report, which only its own machine can check; expected the quote made "
                    "from it",
                    source));
  return {.tee = blob.tee,
          .report = Bytes(blob.report.begin(), blob.report.end()),
          .certificates = {},
          .runtime_data = Bytes(blob.claims.begin(), blob.claims.end())};
}

}  // namespace

std::string_view name_of(Tee tee) {
  for (const auto& [value, name] : kNames)
    if (value == tee) return name;
  return "unknown";
}

std::optional<Tee> tee_of_name(std::string_view name) {
  for (const auto& [value, known] : kNames)
    if (known == name) return value;
  return std::nullopt;
}

std::string to_json(const Evidence& evidence) {
  Json json = {{"tee", name_of(evidence.tee)}, {"report", to_base64(evidence.report)}, {"certificates", Json::array()}};
  for (const Bytes& certificate : evidence.certificates) json["certificates"].push_back(to_base64(certificate));
  if (!evidence.runtime_data.empty()) json["runtime_data"] = to_base64(evidence.runtime_data);
  return json.dump();
}

Evidence parse_evidence(ByteView bytes, const std::string& source) {
  if (bytes.size() > kMaxEvidenceBytes)
    throw InputError(fmt::format("{}: {} bytes, expected at most {}", source, bytes.size(), kMaxEvidenceBytes));
  if (is_hcl_blob(bytes)) return parse_hcl(bytes, source);
  if (const auto tee = recognise(bytes)) {
    if (bytes.size() > kMaxReportBytes)
      throw InputError(fmt::format("{}: {} bytes, expected at most {}", source, bytes.size(), kMaxReportBytes));
    return {.tee = *tee, .report = Bytes(bytes.begin(), bytes.end()), .certificates = {}, .runtime_data = {}};
  }
  const auto first = std::find_if(bytes.begin(), bytes.end(), [](std::byte byte) { return byte > std::byte{' '}; });
  if (first != bytes.end() && *first == std::byte{'{'}) return parse_bundle(bytes, source);
  throw InputError(
      fmt::format("{}: neither an evidence bundle nor an SEV-SNP report, a TDX or SGX quote, or an HCL blob", source));
}

}  // namespace tempo::attest
