#include "attest/synthetic.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <atomic>

namespace tempo::testing {

using namespace tempo::attest;

namespace {

using UniqueExtension = std::unique_ptr<X509_EXTENSION, FreeHandle<X509_EXTENSION_free>>;
using UniqueRevoked = std::unique_ptr<X509_REVOKED, FreeHandle<X509_REVOKED_free>>;
using UniqueInteger = std::unique_ptr<ASN1_INTEGER, FreeHandle<ASN1_INTEGER_free>>;
using UniqueTime = std::unique_ptr<ASN1_TIME, FreeHandle<ASN1_TIME_free>>;
using UniqueDigestContext = std::unique_ptr<EVP_MD_CTX, FreeHandle<EVP_MD_CTX_free>>;
using UniqueSignature = std::unique_ptr<ECDSA_SIG, FreeHandle<ECDSA_SIG_free>>;
using UniqueObject = std::unique_ptr<ASN1_OBJECT, FreeHandle<ASN1_OBJECT_free>>;

const EVP_MD* hash_of(Curve curve) { return curve == Curve::kP256WithSha256 ? EVP_sha256() : EVP_sha384(); }

UniqueTime asn1_time(const std::string& text) {
  return checked_openssl(UniqueTime(ASN1_TIME_set(nullptr, parse_utc(text, "test").time_since_epoch().count())),
                         "make a time");
}

void set_name(X509_NAME* name, const std::string& text) {
  check_openssl(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                           reinterpret_cast<const unsigned char*>(text.c_str()), -1, -1, 0) == 1,
                "set a name");
}

void add_text_extension(X509* certificate, int kind, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const auto made = checked_openssl(UniqueExtension(X509V3_EXT_conf_nid(nullptr, &context, kind, value)), "extend");
  check_openssl(X509_add_ext(certificate, made.get(), -1) == 1, "extend");
}

void add_raw_extension(X509* certificate, const Extension& wanted) {
  const auto object = checked_openssl(UniqueObject(OBJ_txt2obj(wanted.oid.c_str(), 1)), "make an object");
  const std::unique_ptr<ASN1_OCTET_STRING, FreeHandle<ASN1_OCTET_STRING_free>> value(ASN1_OCTET_STRING_new());
  ASN1_OCTET_STRING_set(value.get(), reinterpret_cast<const unsigned char*>(wanted.der.data()),
                        static_cast<int>(wanted.der.size()));
  const auto made =
      checked_openssl(UniqueExtension(X509_EXTENSION_create_by_OBJ(nullptr, object.get(), 0, value.get())), "extend");
  check_openssl(X509_add_ext(certificate, made.get(), -1) == 1, "extend");
}

}  // namespace

SyntheticKey::SyntheticKey(std::string name, Curve curve)
    : name_(std::move(name)),
      curve_(curve),
      key_(checked_openssl(UniqueKey(EVP_EC_gen(curve == Curve::kP256WithSha256 ? "P-256" : "P-384")), "make a key")) {}

UniqueX509 SyntheticKey::self_signed() const { return certify({.name = name_, .is_ca = true}, key_.get()); }

UniqueX509 SyntheticKey::certify(const CertificateSpec& spec, EVP_PKEY* subject_key) const {
  static std::atomic<long> serial{1};
  auto certificate = checked_openssl(UniqueX509(X509_new()), "make a certificate");
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial++);
  X509_set1_notBefore(certificate.get(), asn1_time(spec.valid_from).get());
  X509_set1_notAfter(certificate.get(), asn1_time(spec.valid_to).get());
  set_name(X509_get_subject_name(certificate.get()), spec.name);
  set_name(X509_get_issuer_name(certificate.get()), name_);
  check_openssl(X509_set_pubkey(certificate.get(), subject_key) == 1, "set a key");
  add_text_extension(certificate.get(), NID_basic_constraints, spec.is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
  if (spec.is_ca) add_text_extension(certificate.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  for (const Extension& wanted : spec.extensions) add_raw_extension(certificate.get(), wanted);
  check_openssl(X509_sign(certificate.get(), key_.get(), hash_of(curve_)) > 0, "sign");
  return certificate;
}

Bytes SyntheticKey::revocation_list(const std::vector<const X509*>& revoked, uint64_t number, const std::string& from,
                                    const std::string& to) const {
  const auto crl = checked_openssl(UniqueCrl(X509_CRL_new()), "make a list");
  X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2);
  const std::unique_ptr<X509_NAME, FreeHandle<X509_NAME_free>> issuer(X509_NAME_new());
  set_name(issuer.get(), name_);
  X509_CRL_set_issuer_name(crl.get(), issuer.get());
  X509_CRL_set1_lastUpdate(crl.get(), asn1_time(from).get());
  X509_CRL_set1_nextUpdate(crl.get(), asn1_time(to).get());
  const UniqueInteger crl_number(ASN1_INTEGER_new());
  ASN1_INTEGER_set_uint64(crl_number.get(), number);
  check_openssl(X509_CRL_add1_ext_i2d(crl.get(), NID_crl_number, crl_number.get(), 0, 0) == 1, "number a list");
  for (const X509* certificate : revoked) {
    UniqueRevoked entry(X509_REVOKED_new());
    X509_REVOKED_set_serialNumber(entry.get(), const_cast<ASN1_INTEGER*>(X509_get0_serialNumber(certificate)));
    X509_REVOKED_set_revocationDate(entry.get(), asn1_time(from).get());
    check_openssl(X509_CRL_add0_revoked(crl.get(), entry.release()) == 1, "revoke");
  }
  X509_CRL_sort(crl.get());
  check_openssl(X509_CRL_sign(crl.get(), key_.get(), hash_of(curve_)) > 0, "sign");
  unsigned char* out = nullptr;
  const int size = i2d_X509_CRL(crl.get(), &out);
  const auto* begin = reinterpret_cast<const std::byte*>(out);
  Bytes bytes(begin, begin + size);
  OPENSSL_free(out);
  return bytes;
}

Bytes SyntheticKey::sign(ByteView message) const {
  const UniqueDigestContext context(EVP_MD_CTX_new());
  check_openssl(EVP_DigestSignInit(context.get(), nullptr, hash_of(curve_), nullptr, key_.get()) == 1, "sign");
  size_t size = 200;
  std::vector<unsigned char> encoded(size);
  check_openssl(EVP_DigestSign(context.get(), encoded.data(), &size,
                               reinterpret_cast<const unsigned char*>(message.data()), message.size()) == 1,
                "sign");
  const unsigned char* at = encoded.data();
  const UniqueSignature signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));
  const int number_bytes = curve_ == Curve::kP256WithSha256 ? 32 : 48;
  Bytes out(2 * static_cast<size_t>(number_bytes));
  auto* raw = reinterpret_cast<unsigned char*>(out.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), raw, number_bytes);
  BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), raw + number_bytes, number_bytes);
  return out;
}

Bytes SyntheticKey::point() const {
  unsigned char* encoded = nullptr;
  const size_t size = EVP_PKEY_get1_encoded_public_key(key_.get(), &encoded);
  check_openssl(size == 65, "encode a key");
  const auto* begin = reinterpret_cast<const std::byte*>(encoded);
  Bytes out(begin + 1, begin + size);
  OPENSSL_free(encoded);
  return out;
}

std::string to_pem(const X509* certificate) {
  const UniqueBio bio(BIO_new(BIO_s_mem()));
  check_openssl(PEM_write_bio_X509(bio.get(), certificate) == 1, "write PEM");
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(size)};
}

Bytes der(uint8_t tag, ByteView content) {
  Bytes out = {std::byte{tag}};
  const size_t size = content.size();
  if (size >= 256) {
    for (const size_t byte : {size_t{0x82}, size >> 8U, size & 0xFFU}) out.push_back(static_cast<std::byte>(byte));
  } else {
    if (size >= 128) out.push_back(std::byte{0x81});
    out.push_back(static_cast<std::byte>(size));
  }
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

Bytes der_integer(uint64_t value) {
  Bytes digits;
  do digits.push_back(static_cast<std::byte>(value & 0xFFU));
  while ((value >>= 8U) != 0);
  if (digits.back() >= std::byte{0x80}) digits.push_back(std::byte{0});
  std::reverse(digits.begin(), digits.end());
  return der(0x02, digits);
}

Bytes der_object(const std::string& dotted) {
  const UniqueObject object(OBJ_txt2obj(dotted.c_str(), 1));
  const auto* begin = reinterpret_cast<const std::byte*>(OBJ_get0_data(object.get()));
  return der(0x06, ByteView(begin, OBJ_length(object.get())));
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

void put(Bytes& out, size_t offset, ByteView bytes) {
  std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<long>(offset));
}
void put_little_endian(Bytes& out, size_t offset, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out[offset + i] = static_cast<std::byte>(value >> (8 * i));
}
void append_little_endian(Bytes& out, uint64_t value, size_t bytes) {
  out.resize(out.size() + bytes);
  put_little_endian(out, out.size() - bytes, value, bytes);
}

}  // namespace tempo::testing
