/// Evidence of machines that do not exist: keys, certificates and statements made here, under a root that only the test
/// trusts. So every check can be met alone, and the tests run where there are no vectors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "attest/crypto/certificates.h"
#include "attest/crypto/openssl.h"

namespace tempo::testing {

using attest::Bytes;
using attest::ByteView;

/// The dates of every certificate and list, unless a test says otherwise.
inline constexpr const char *kValidFrom = "2025-01-01", *kNowInside = "2025-07-01", *kValidTo = "2026-01-01";

struct Extension {
  std::string oid;
  Bytes der;
};

struct CertificateSpec {
  std::string name;
  bool is_ca = false;
  std::vector<Extension> extensions = {};
  std::string valid_from = kValidFrom, valid_to = kValidTo;
};

/// A key, and the name under which it signs.
class SyntheticKey {
 public:
  explicit SyntheticKey(std::string name, attest::Curve curve = attest::Curve::kP384WithSha384);

  [[nodiscard]] EVP_PKEY* key() const { return key_.get(); }
  [[nodiscard]] attest::UniqueX509 self_signed() const;
  /// A certificate over another's key.
  [[nodiscard]] attest::UniqueX509 certify(const CertificateSpec& spec, EVP_PKEY* subject_key) const;
  /// A list of the serial numbers that are revoked.
  [[nodiscard]] Bytes revocation_list(const std::vector<const X509*>& revoked = {}, uint64_t number = 1,
                                      const std::string& from = kValidFrom, const std::string& to = kValidTo) const;
  /// r | s, big-endian, each of the curve's size.
  [[nodiscard]] Bytes sign(ByteView message) const;
  /// x | y of a P-256 key.
  [[nodiscard]] Bytes point() const;

 private:
  std::string name_;
  attest::Curve curve_;
  attest::UniqueKey key_;
};

std::string to_pem(const X509* certificate);

// DER, short forms.
Bytes der(uint8_t tag, ByteView content);
Bytes der_integer(uint64_t value);
Bytes der_object(const std::string& dotted);
Bytes joined(std::initializer_list<Bytes> parts);

/// Overwrites bytes of a layout under construction.
void put(Bytes& out, size_t offset, ByteView bytes);
void put_little_endian(Bytes& out, size_t offset, uint64_t value, size_t bytes);
void append_little_endian(Bytes& out, uint64_t value, size_t bytes);

}  // namespace tempo::testing
