/// OpenSSL's handles with an owner each, hashes, and ECDSA over raw numbers. Every return code is checked.
#pragma once

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>

#include "attest/types.h"

namespace tempo::attest {

template <auto kFree>
struct FreeHandle {
  template <typename Handle>
  void operator()(Handle* handle) const {
    kFree(handle);
  }
};
inline void free_bio(BIO* bio) { BIO_free(bio); }

using UniqueKey = std::unique_ptr<EVP_PKEY, FreeHandle<EVP_PKEY_free>>;
using UniqueX509 = std::unique_ptr<X509, FreeHandle<X509_free>>;
using UniqueCrl = std::unique_ptr<X509_CRL, FreeHandle<X509_CRL_free>>;
using UniqueBio = std::unique_ptr<BIO, FreeHandle<free_bio>>;

/// @throws RunError "attestation: OpenSSL cannot WHAT" and empties OpenSSL's queue of errors.
void check_openssl(bool is_done, const char* what);
template <typename Handle>
Handle checked_openssl(Handle handle, const char* what) {
  check_openssl(handle != nullptr, what);
  return handle;
}

Digest32 sha256(ByteView bytes);
Digest64 sha512(ByteView bytes);

/// The curve of a key and of the hash that goes with it.
enum class Curve { kP256WithSha256, kP384WithSha384 };
/// From x | y, big-endian. @throws AttestationError if it is no point of the curve.
UniqueKey p256_key(ByteView point);
[[nodiscard]] bool is_on_curve(EVP_PKEY* key, Curve curve);
/// @param r, s big-endian. False for any signature that is not this key's, whatever is wrong with it.
[[nodiscard]] bool ecdsa_verifies(EVP_PKEY* key, Curve curve, ByteView message, ByteView r, ByteView s);

}  // namespace tempo::attest
