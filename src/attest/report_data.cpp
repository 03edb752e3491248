#include "attest/report_data.h"

#include <fmt/format.h>

#include "attest/crypto/json.h"
#include "attest/crypto/openssl.h"
#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr std::string_view kLabel = "tempo/v1/report-data";
constexpr size_t kMaxPartBytes = 8 << 10;

void append_part(Bytes& out, ByteView part, std::string_view what, size_t fixed_bytes = 0) {
  if (fixed_bytes != 0 && part.size() != fixed_bytes)
    throw InputError(fmt::format("report data: {} of {} bytes, expected {}", what, part.size(), fixed_bytes));
  if (part.empty() || part.size() > kMaxPartBytes)
    throw InputError(fmt::format("report data: {} of {} bytes, expected 1 to {}", what, part.size(), kMaxPartBytes));
  append_u64(out, part.size());
  out.insert(out.end(), part.begin(), part.end());
}

}  // namespace

ReportData bind_report_data(const ReportDataBinding& binding) {
  Bytes message;
  append_part(message, as_view(kLabel), "label");
  append_part(message, binding.nonce, "nonce", 32);
  append_part(message, binding.spki, "public key of TLS");
  append_part(message, binding.release_public_key, "public key for release");
  append_part(message, binding.tls_exporter, "TLS exporter", 32);
  append_part(message, binding.config_hash, "config hash", 32);
  return sha512(message);
}

}  // namespace tempo::attest
