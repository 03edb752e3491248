#include "attest/snp/endorsement.h"

#include <fmt/format.h>

#include "attest/crypto/certificates.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr const char *kProduct = "1.3.6.1.4.1.3704.1.2", *kBootloader = "1.3.6.1.4.1.3704.1.3.1",
                     *kTee = "1.3.6.1.4.1.3704.1.3.2", *kSnp = "1.3.6.1.4.1.3704.1.3.3",
                     *kMicrocode = "1.3.6.1.4.1.3704.1.3.8", *kFmc = "1.3.6.1.4.1.3704.1.3.9",
                     *kHwid = "1.3.6.1.4.1.3704.1.4", *kCspId = "1.3.6.1.4.1.3704.1.5";
constexpr std::byte kInteger{2}, kOctetString{4}, kUtf8String{12}, kIa5String{22};
constexpr size_t kHwidBytes = 64, kShortHwidBytes = 8;

/// The content of a DER value of this tag with a one-byte length that fills `der`; none if it is something else.
std::optional<ByteView> content_of(ByteView der, std::byte tag) {
  if (der.size() < 2 || der[0] != tag || std::to_integer<size_t>(der[1]) != der.size() - 2 || der.size() - 2 > 127)
    return std::nullopt;
  return der.subspan(2);
}

[[noreturn]] void refuse(const char* oid) {
  throw AttestationError(fmt::format("sev-snp: certificate's extension {} is missing or malformed", oid));
}

/// An INTEGER of 0 to 255: one byte, or two with a leading zero where the sign bit is set.
std::optional<uint8_t> find_svn(const X509* certificate, const char* oid) {
  const auto value = extension(certificate, oid);
  if (!value) return std::nullopt;
  const auto content = content_of(*value, kInteger);
  if (!content) refuse(oid);
  const bool is_short = content->size() == 1 && (*content)[0] < std::byte{0x80};
  const bool is_padded = content->size() == 2 && (*content)[0] == std::byte{0} && (*content)[1] >= std::byte{0x80};
  if (!is_short && !is_padded) refuse(oid);
  return std::to_integer<uint8_t>(content->back());
}

uint8_t svn(const X509* certificate, const char* oid) {
  const auto value = find_svn(certificate, oid);
  if (!value) refuse(oid);
  return *value;
}

std::string text(const Bytes& der, const char* oid) {
  auto content = content_of(der, kIa5String);
  if (!content) content = content_of(der, kUtf8String);
  if (!content) refuse(oid);
  return {reinterpret_cast<const char*>(content->data()), content->size()};
}

Bytes hwid(const Bytes& value) {
  if (value.size() == kHwidBytes || value.size() == kShortHwidBytes) return value;
  const auto content = content_of(value, kOctetString);
  if (!content || (content->size() != kHwidBytes && content->size() != kShortHwidBytes)) refuse(kHwid);
  return Bytes(content->begin(), content->end());
}

}  // namespace

SnpEndorsement read_endorsement(const X509* certificate) {
  SnpEndorsement found;
  const auto product = extension(certificate, kProduct);
  if (!product) refuse(kProduct);
  found.product = text(*product, kProduct);
  const auto fmc = find_svn(certificate, kFmc);
  found.has_fmc = fmc.has_value();
  found.tcb = {fmc.value_or(0), svn(certificate, kBootloader), svn(certificate, kTee), svn(certificate, kSnp),
               svn(certificate, kMicrocode)};
  if (const auto value = extension(certificate, kHwid)) found.hwid = hwid(*value);
  if (const auto value = extension(certificate, kCspId)) found.csp_id = text(*value, kCspId);
  return found;
}

}  // namespace tempo::attest
