#include "attest/crypto/openssl.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "tempo/error.h"

namespace tempo::attest {
namespace {

using UniqueDigestContext = std::unique_ptr<EVP_MD_CTX, FreeHandle<EVP_MD_CTX_free>>;
using UniqueKeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeHandle<EVP_PKEY_CTX_free>>;
using UniqueSignature = std::unique_ptr<ECDSA_SIG, FreeHandle<ECDSA_SIG_free>>;
using UniqueNumber = std::unique_ptr<BIGNUM, FreeHandle<BN_free>>;

template <size_t kBytes>
std::array<std::byte, kBytes> digest(const EVP_MD* hash, ByteView bytes) {
  std::array<std::byte, kBytes> out{};
  unsigned size = kBytes;
  check_openssl(
      EVP_Digest(raw(bytes), bytes.size(), reinterpret_cast<unsigned char*>(out.data()), &size, hash, nullptr) == 1 &&
          size == kBytes,
      "hash");
  return out;
}

UniqueNumber number(ByteView big_endian) {
  return checked_openssl(UniqueNumber(BN_bin2bn(raw(big_endian), static_cast<int>(big_endian.size()), nullptr)),
                         "make a number");
}

/// DER of (r, s).
Bytes encode_signature(ByteView r, ByteView s) {
  const auto signature = checked_openssl(UniqueSignature(ECDSA_SIG_new()), "make a signature");
  UniqueNumber r_number = number(r), s_number = number(s);
  check_openssl(ECDSA_SIG_set0(signature.get(), r_number.get(), s_number.get()) == 1, "make a signature");
  (void)r_number.release();  // the signature's now
  (void)s_number.release();
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &der);
  check_openssl(size > 0, "encode a signature");
  const auto* begin = reinterpret_cast<const std::byte*>(der);
  Bytes out(begin, begin + size);
  OPENSSL_free(der);
  return out;
}

}  // namespace

void check_openssl(bool is_done, const char* what) {
  if (is_done) return;
  ERR_clear_error();
  throw RunError(fmt::format("attestation: OpenSSL cannot {}", what));
}

Digest32 sha256(ByteView bytes) { return digest<32>(EVP_sha256(), bytes); }
Digest64 sha512(ByteView bytes) { return digest<64>(EVP_sha512(), bytes); }

UniqueKey p256_key(ByteView point) {
  Bytes uncompressed = {std::byte{4}};
  uncompressed.insert(uncompressed.end(), point.begin(), point.end());
  char group[] = "prime256v1";
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
      OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, uncompressed.data(), uncompressed.size()),
      OSSL_PARAM_construct_end()};
  const auto context =
      checked_openssl(UniqueKeyContext(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr)), "make a key");
  check_openssl(EVP_PKEY_fromdata_init(context.get()) == 1, "make a key");
  EVP_PKEY* key = nullptr;
  if (EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1) {
    ERR_clear_error();
    throw AttestationError("attestation key is no point of P-256");
  }
  return UniqueKey(key);
}

bool is_on_curve(EVP_PKEY* key, Curve curve) {
  char name[64] = {};
  size_t size = 0;
  const bool has_name = EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_group_name(key, name, sizeof name, &size) == 1;
  return has_name && std::string_view(name, size) == (curve == Curve::kP256WithSha256 ? "prime256v1" : "secp384r1");
}

bool ecdsa_verifies(EVP_PKEY* key, Curve curve, ByteView message, ByteView r, ByteView s) {
  if (!is_on_curve(key, curve)) return false;
  const Bytes signature = encode_signature(r, s);
  const auto context = checked_openssl(UniqueDigestContext(EVP_MD_CTX_new()), "make a hash");
  const EVP_MD* hash = curve == Curve::kP256WithSha256 ? EVP_sha256() : EVP_sha384();
  check_openssl(EVP_DigestVerifyInit(context.get(), nullptr, hash, nullptr, key) == 1, "verify");
  const bool is_good =
      EVP_DigestVerify(context.get(), raw(signature), signature.size(), raw(message), message.size()) == 1;
  if (!is_good) ERR_clear_error();
  return is_good;
}

}  // namespace tempo::attest
