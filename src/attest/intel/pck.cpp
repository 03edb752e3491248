#include "attest/intel/pck.h"

#include <fmt/format.h>
#include <openssl/err.h>

#include <map>

#include "attest/crypto/certificates.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr std::string_view kSgx = "1.2.840.113741.1.13.1";
constexpr size_t kMaxFields = 32;

void free_sequence(ASN1_SEQUENCE_ANY* sequence) { sk_ASN1_TYPE_pop_free(sequence, ASN1_TYPE_free); }
using UniqueSequence = std::unique_ptr<ASN1_SEQUENCE_ANY, FreeHandle<free_sequence>>;

[[noreturn]] void refuse(std::string_view field) {
  throw AttestationError(fmt::format("PCK certificate: SGX extension {} is missing or malformed", field));
}

/// A SEQUENCE and nothing after it.
UniqueSequence open_sequence(ByteView der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const auto* const end = at + der.size();
  UniqueSequence sequence(d2i_ASN1_SEQUENCE_ANY(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  if (sequence == nullptr || at != end || static_cast<size_t>(sk_ASN1_TYPE_num(sequence.get())) > kMaxFields)
    refuse(kSgx);
  return sequence;
}

ByteView content(const ASN1_TYPE* value, int type, std::string_view field) {
  if (value == nullptr || ASN1_TYPE_get(value) != type) refuse(field);
  const ASN1_STRING* text = value->value.asn1_string;
  return {reinterpret_cast<const std::byte*>(ASN1_STRING_get0_data(text)),
          static_cast<size_t>(ASN1_STRING_length(text))};
}

std::string dotted(const ASN1_TYPE* value) {
  if (value == nullptr || ASN1_TYPE_get(value) != V_ASN1_OBJECT) refuse(kSgx);
  char text[80] = {};
  const int size = OBJ_obj2txt(text, sizeof text, value->value.object, 1);
  if (size <= 0 || size >= static_cast<int>(sizeof text)) refuse(kSgx);
  return text;
}

/// One level of the extension: object identifier to value.
class Fields {
 public:
  explicit Fields(ByteView der) : sequence_(open_sequence(der)) {
    for (int i = 0; i < sk_ASN1_TYPE_num(sequence_.get()); ++i) {
      pairs_.push_back(open_sequence(content(sk_ASN1_TYPE_value(sequence_.get(), i), V_ASN1_SEQUENCE, kSgx)));
      const ASN1_SEQUENCE_ANY* pair = pairs_.back().get();
      if (sk_ASN1_TYPE_num(pair) != 2) refuse(kSgx);
      if (!values_.emplace(dotted(sk_ASN1_TYPE_value(pair, 0)), sk_ASN1_TYPE_value(pair, 1)).second) refuse(kSgx);
    }
  }

  [[nodiscard]] const ASN1_TYPE* find(const std::string& oid) const {
    const auto found = values_.find(oid);
    return found == values_.end() ? nullptr : found->second;
  }
  [[nodiscard]] const ASN1_TYPE* need(const std::string& oid) const {
    const ASN1_TYPE* value = find(oid);
    if (value == nullptr) refuse(oid);
    return value;
  }
  template <size_t kBytes>
  void read_octets(const std::string& oid, std::array<std::byte, kBytes>& out) const {
    const ByteView bytes = content(need(oid), V_ASN1_OCTET_STRING, oid);
    if (bytes.size() != kBytes) refuse(oid);
    std::copy(bytes.begin(), bytes.end(), out.begin());
  }
  [[nodiscard]] uint64_t number(const std::string& oid, uint64_t max) const {
    const ASN1_TYPE* value = need(oid);
    uint64_t number = 0;
    const bool is_read = ASN1_TYPE_get(value) == V_ASN1_INTEGER &&
                         ASN1_INTEGER_get_uint64(&number, value->value.integer) == 1 && number <= max;
    ERR_clear_error();
    if (!is_read) refuse(oid);
    return number;
  }

 private:
  UniqueSequence sequence_;
  std::vector<UniqueSequence> pairs_;
  std::map<std::string, const ASN1_TYPE*> values_;
};

}  // namespace

PckFacts read_pck(const X509* certificate) {
  const std::string sgx(kSgx);
  const auto der = extension(certificate, sgx.c_str());
  if (!der) refuse(kSgx);
  const Fields fields(*der);
  PckFacts facts;
  fields.read_octets(sgx + ".3", facts.pce_id);
  fields.read_octets(sgx + ".4", facts.fmspc);
  if (fields.find(sgx + ".6") != nullptr) fields.read_octets(sgx + ".6", facts.platform_instance_id.emplace());
  const Fields tcb(content(fields.need(sgx + ".2"), V_ASN1_SEQUENCE, kSgx));
  for (size_t i = 0; i < facts.components.size(); ++i)
    facts.components[i] = static_cast<uint8_t>(tcb.number(fmt::format("{}.2.{}", sgx, i + 1), UINT8_MAX));
  facts.pce_svn = static_cast<uint16_t>(tcb.number(sgx + ".2.17", UINT16_MAX));
  tcb.read_octets(sgx + ".2.18", facts.cpu_svn);
  return facts;
}

}  // namespace tempo::attest
