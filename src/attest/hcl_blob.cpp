#include "attest/hcl_blob.h"

#include <fmt/format.h>

#include "attest/crypto/json.h"
#include "attest/snp/report.h"
#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr std::string_view kMagic = "HCLA";
constexpr size_t kReportOffset = 0x20, kRuntimeOffset = 0x4C0, kTdReportBytes = 1024;
constexpr uint32_t kSnpReport = 2, kTdReport = 4, kSha256 = 1;

}  // namespace

bool is_hcl_blob(ByteView bytes) { return as_text(bytes).starts_with(kMagic); }

HclBlob parse_hcl_blob(ByteView bytes, const std::string& source) {
  ByteReader reader(bytes, source);
  reader.bytes(kReportOffset);
  const ByteView area = reader.bytes(kRuntimeOffset - kReportOffset);
  reader.u32();  // bytes of what follows, said again by the size of the claims
  const uint32_t version = reader.u32(), type = reader.u32(), hash = reader.u32(), size = reader.u32();
  if (version != 1) throw InputError(fmt::format("{}: HCL runtime data of version {}, expected 1", source, version));
  if (type != kSnpReport && type != kTdReport)
    throw InputError(fmt::format("{}: HCL report of type {}, expected 2 (SEV-SNP) or 4 (TDX)", source, type));
  if (hash != kSha256) throw InputError(fmt::format("{}: HCL claims hashed by {}, expected 1 (SHA-256)", source, hash));
  if (size > kMaxRuntimeDataBytes)
    throw InputError(
        fmt::format("{}: {} bytes of HCL claims, expected at most {}", source, size, kMaxRuntimeDataBytes));
  const bool is_snp = type == kSnpReport;
  return {is_snp ? Tee::kSevSnp : Tee::kTdx, area.first(is_snp ? kSnpReportBytes : kTdReportBytes), reader.bytes(size)};
}

}  // namespace tempo::attest
