/// Who an end of an attested connection is: a P-256 key and a certificate that it signed itself.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <filesystem>
#include <memory>

#include "attest/types.h"

namespace tempo::service {

/// SHA-256. @throws RunError if OpenSSL fails.
attest::Digest32 sha256(attest::ByteView bytes);

template <auto kFree>
struct OpensslFree {
  template <typename Handle>
  void operator()(Handle* handle) const {
    kFree(handle);
  }
};
using UniqueKey = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using UniqueCertificate = std::unique_ptr<X509, OpensslFree<X509_free>>;

/// The certificate says nothing but the key: nobody signs it, and its dates are not looked at. Whom the key belongs to
/// is known by evidence (the service) or by having met it before (a client).
class TlsIdentity {
 public:
  /// A key in memory alone. @throws RunError if OpenSSL fails.
  static TlsIdentity make();
  /// A PEM key, mode 0600 or stricter; made, with its folder, where there is none. `*created` tells, unless null.
  /// @throws InputError for a file that others may read, or that holds no P-256 key; RunError on I/O failure.
  static TlsIdentity load_or_create(const std::filesystem::path& path, bool* created);

  [[nodiscard]] EVP_PKEY* key() const { return key_.get(); }
  [[nodiscard]] X509* certificate() const { return certificate_.get(); }
  /// SubjectPublicKeyInfo, DER.
  [[nodiscard]] attest::Bytes spki() const;

 private:
  explicit TlsIdentity(UniqueKey key);

  UniqueKey key_;
  UniqueCertificate certificate_;
};

/// SubjectPublicKeyInfo of a certificate, DER. @throws ProtocolError if its key is not on P-256.
attest::Bytes spki_of(X509* certificate);

}  // namespace tempo::service
