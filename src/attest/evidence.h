/// A piece of evidence as it travels: what the hardware signed, and the certificates that came with it. Nothing in it
/// is believed before `appraise` (appraisal.h) has accepted it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "attest/types.h"

namespace tempo::attest {

/// Kinds of trusted execution environment. `kInsecureSimulated` is none: a key that anyone can make signs whatever it
/// is given. It is there so that everything runs without hardware, and only a policy that names it accepts it.
enum class Tee { kSevSnp, kTdx, kSgx, kInsecureSimulated };
/// "sev-snp", "tdx", "sgx", "insecure-simulated".
std::string_view name_of(Tee tee);
std::optional<Tee> tee_of_name(std::string_view name);

constexpr size_t kMaxEvidenceBytes = 1 << 20;  // of a bundle, and of a raw report
constexpr size_t kMaxReportBytes = 64 << 10;   // of the report or quote in a bundle
constexpr size_t kMaxCertificates = 16;
constexpr size_t kMaxCertificateBytes = 8 << 10;  // DER
constexpr size_t kMaxRuntimeDataBytes = 16 << 10;

struct Evidence {
  Tee tee = Tee::kInsecureSimulated;
  /// The report or quote, exactly as the hardware gave it.
  Bytes report;
  /// DER. SEV-SNP: VCEK or VLEK and what else the platform gives. Quotes of SGX and TDX carry theirs inside.
  std::vector<Bytes> certificates;
  /// Claims of a paravisor (Azure's HCL), which the report binds by report_data = SHA-256 of them; mostly empty.
  Bytes runtime_data;
  bool operator==(const Evidence&) const = default;
};

/// One line of JSON: docs/formats/evidence.md.
std::string to_json(const Evidence& evidence);

/// Reads a bundle, a raw SEV-SNP report, TDX or SGX quote, or Azure's HCL blob, told apart by how they begin. Checks
/// the envelope alone: sizes, counts, names, base64. @param source names the bytes in messages, e.g. a path.
/// @throws InputError for anything else.
Evidence parse_evidence(ByteView bytes, const std::string& source);

}  // namespace tempo::attest
