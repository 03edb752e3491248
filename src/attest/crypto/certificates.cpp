#include "attest/crypto/certificates.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>

#include "base/byte_reader.h"
#include "base/text.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

using UniqueStore = std::unique_ptr<X509_STORE, FreeHandle<X509_STORE_free>>;
using UniqueStoreContext = std::unique_ptr<X509_STORE_CTX, FreeHandle<X509_STORE_CTX_free>>;
void free_stack(STACK_OF(X509) * stack) { sk_X509_free(stack); }
void free_crl_stack(STACK_OF(X509_CRL) * stack) { sk_X509_CRL_free(stack); }
using UniqueStack = std::unique_ptr<STACK_OF(X509), FreeHandle<free_stack>>;  // does not own what is in it
using UniqueCrlStack = std::unique_ptr<STACK_OF(X509_CRL), FreeHandle<free_crl_stack>>;
using UniqueObject = std::unique_ptr<ASN1_OBJECT, FreeHandle<ASN1_OBJECT_free>>;
using UniqueInteger = std::unique_ptr<ASN1_INTEGER, FreeHandle<ASN1_INTEGER_free>>;

constexpr int kAuthLevel = 2;  // 112 bits: RSA of 2048 and more, no SHA-1
constexpr int kMaxChainDepth = 4;

template <auto kDecode>
auto decode_der(ByteView der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const unsigned char* const end = at + der.size();
  auto* object = kDecode(nullptr, &at, static_cast<long>(der.size()));
  ERR_clear_error();
  return std::pair(object, object != nullptr && at == end);
}

UtcTime to_utc(const ASN1_TIME* time, std::string_view what) {
  std::tm fields{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &fields) != 1) {
    ERR_clear_error();
    throw AttestationError(fmt::format("{}: has no readable date", what));
  }
  return UtcTime(std::chrono::seconds(timegm(&fields)));
}

/// `count` blocks at most: a text of a million empty blocks must not be read to its end.
void add_block(PemContent& content, const std::string& name, ByteView der, size_t max_count, const std::string& what) {
  if (name == PEM_STRING_X509 || name == PEM_STRING_X509_OLD)
    content.certificates.emplace_back(der.begin(), der.end());
  else if (name == PEM_STRING_X509_CRL)
    content.revocation_lists.emplace_back(der.begin(), der.end());
  else
    throw InputError(
        fmt::format("{}: PEM block {}, expected certificates and revocation lists", what, quote_untrusted(name, 32)));
  if (content.certificates.size() + content.revocation_lists.size() > max_count)
    throw InputError(fmt::format("{}: more than {} PEM blocks, expected at most that", what, max_count));
}

UniqueStoreContext prepare(const ChainRequest& request, X509_STORE* store, STACK_OF(X509) * intermediates,
                           STACK_OF(X509_CRL) * lists) {
  auto context = checked_openssl(UniqueStoreContext(X509_STORE_CTX_new()), "verify a chain");
  check_openssl(X509_STORE_CTX_init(context.get(), store, request.leaf, intermediates) == 1, "verify a chain");
  X509_STORE_CTX_set0_crls(context.get(), lists);
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(parameters, static_cast<time_t>(request.now.time_since_epoch().count()));
  X509_VERIFY_PARAM_set_depth(parameters, kMaxChainDepth);
  X509_VERIFY_PARAM_set_auth_level(parameters, kAuthLevel);
  if (request.check_revocation)
    check_openssl(X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1,
                  "check revocation");
  return context;
}

}  // namespace

UniqueX509 parse_certificate(ByteView der, std::string_view what) {
  const auto [object, is_whole] = decode_der<d2i_X509>(der);
  UniqueX509 certificate(object);
  if (!is_whole) throw AttestationError(fmt::format("{}: not a certificate in DER", what));
  return certificate;
}

UniqueCrl parse_crl(ByteView der, std::string_view what) {
  const auto [object, is_whole] = decode_der<d2i_X509_CRL>(der);
  UniqueCrl crl(object);
  if (!is_whole) throw AttestationError(fmt::format("{}: not a revocation list in DER", what));
  return crl;
}

PemContent read_pem(std::string_view text, size_t max_count, const std::string& what) {
  check_text(text, what);
  const auto bio = checked_openssl(UniqueBio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))), "read PEM");
  PemContent content;
  for (;;) {
    char *name = nullptr, *header = nullptr;
    unsigned char* data = nullptr;
    long size = 0;
    const bool is_read = PEM_read_bio(bio.get(), &name, &header, &data, &size) == 1;
    const bool is_end = !is_read && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    std::string kind = is_read ? name : "";
    Bytes der;
    if (is_read) {
      const auto* begin = reinterpret_cast<const std::byte*>(data);
      der.assign(begin, begin + size);
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
    ERR_clear_error();
    if (is_end) return content;
    if (!is_read) throw InputError(fmt::format("{}: malformed PEM", what));
    add_block(content, kind, der, max_count, what);
  }
}

std::string common_name(X509_NAME* name) {
  const int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  const X509_NAME_ENTRY* entry = at < 0 ? nullptr : X509_NAME_get_entry(name, at);
  const ASN1_STRING* text = entry == nullptr ? nullptr : X509_NAME_ENTRY_get_data(entry);
  if (text == nullptr) return {};
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)), static_cast<size_t>(ASN1_STRING_length(text))};
}
std::string subject_of(const X509* certificate) { return common_name(X509_get_subject_name(certificate)); }
std::string issuer_of(const X509* certificate) { return common_name(X509_get_issuer_name(certificate)); }

Bytes to_der(const X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate, &der);
  check_openssl(size > 0, "encode a certificate");
  const auto* begin = reinterpret_cast<const std::byte*>(der);
  Bytes out(begin, begin + size);
  OPENSSL_free(der);
  return out;
}

std::optional<Bytes> extension(const X509* certificate, const char* oid) {
  const auto object = checked_openssl(UniqueObject(OBJ_txt2obj(oid, 1)), "make an object identifier");
  const int at = X509_get_ext_by_OBJ(certificate, object.get(), -1);
  if (at < 0) return std::nullopt;
  if (X509_get_ext_by_OBJ(certificate, object.get(), at) >= 0)
    throw AttestationError(fmt::format("certificate has the extension {} twice", oid));
  const ASN1_OCTET_STRING* value = X509_EXTENSION_get_data(X509_get_ext(certificate, at));
  const auto* begin = reinterpret_cast<const std::byte*>(ASN1_STRING_get0_data(value));
  return Bytes(begin, begin + ASN1_STRING_length(value));
}

CrlFacts facts_of(const X509_CRL* crl) {
  CrlFacts facts;
  facts.issuer = common_name(X509_CRL_get_issuer(crl));
  facts.issued = to_utc(X509_CRL_get0_lastUpdate(crl), "revocation list");
  facts.next = to_utc(X509_CRL_get0_nextUpdate(crl), "revocation list");
  const UniqueInteger number(static_cast<ASN1_INTEGER*>(X509_CRL_get_ext_d2i(crl, NID_crl_number, nullptr, nullptr)));
  if (number != nullptr && ASN1_INTEGER_get_uint64(&facts.number, number.get()) != 1) {
    ERR_clear_error();
    throw AttestationError("revocation list: number over 64 bits");
  }
  return facts;
}

std::vector<UniqueX509> verify_chain(const ChainRequest& request, std::string_view what) {
  const auto store = checked_openssl(UniqueStore(X509_STORE_new()), "verify a chain");
  check_openssl(X509_STORE_add_cert(store.get(), request.root) == 1, "verify a chain");
  const auto intermediates = checked_openssl(UniqueStack(sk_X509_new_null()), "verify a chain");
  for (X509* certificate : request.intermediates)
    check_openssl(sk_X509_push(intermediates.get(), certificate) > 0, "verify a chain");
  const auto lists = checked_openssl(UniqueCrlStack(sk_X509_CRL_new_null()), "verify a chain");
  for (X509_CRL* list : request.revocation_lists)
    check_openssl(sk_X509_CRL_push(lists.get(), list) > 0, "verify a chain");
  const auto context = prepare(request, store.get(), intermediates.get(), lists.get());
  const bool is_good = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (!is_good) {
    X509* at = X509_STORE_CTX_get_current_cert(context.get());
    throw AttestationError(fmt::format("{}: {}, at {}", what,
                                       X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get())),
                                       at == nullptr ? "its end" : quote_untrusted(subject_of(at))));
  }
  std::vector<UniqueX509> path;
  STACK_OF(X509)* found = X509_STORE_CTX_get0_chain(context.get());
  for (int i = 0; i < sk_X509_num(found); ++i) {
    X509* certificate = sk_X509_value(found, i);
    check_openssl(X509_up_ref(certificate) == 1, "keep a certificate");
    path.emplace_back(certificate);
  }
  return path;
}

void verify_crl(X509_CRL* crl, X509* issuer, UtcTime now, std::string_view what) {
  const bool is_issuers = X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)) == 0 &&
                          X509_CRL_verify(crl, X509_get0_pubkey(issuer)) == 1;
  ERR_clear_error();
  if (!is_issuers) throw AttestationError(fmt::format("{}: revocation list is not signed by its issuer", what));
  const CrlFacts facts = facts_of(crl);
  if (now < facts.issued || now > facts.next)
    throw AttestationError(fmt::format("{}: revocation list is valid from {} to {}, it is {}", what,
                                       to_text(facts.issued), to_text(facts.next), to_text(now)));
}

bool is_revoked(X509_CRL* crl, X509* certificate) {
  X509_REVOKED* entry = nullptr;
  return X509_CRL_get0_by_cert(crl, &entry, certificate) != 0;
}

}  // namespace tempo::attest
