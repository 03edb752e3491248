/// X.509 as attestation needs it: certificates, revocation lists and chains up to a pinned root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attest/crypto/openssl.h"

namespace tempo::attest {

/// @throws AttestationError "WHAT: not a certificate" unless it is one, in DER, and nothing else.
UniqueX509 parse_certificate(ByteView der, std::string_view what);
UniqueCrl parse_crl(ByteView der, std::string_view what);
/// Every certificate (or list) of a PEM text, as DER, unparsed. Text around them is passed over.
/// @throws InputError for malformed PEM, other kinds of block, or more than `max_count`.
struct PemContent {
  std::vector<Bytes> certificates, revocation_lists;
};
PemContent read_pem(std::string_view text, size_t max_count, const std::string& what);

std::string common_name(X509_NAME* name);
std::string subject_of(const X509* certificate);
std::string issuer_of(const X509* certificate);
Bytes to_der(const X509* certificate);

/// The bytes of an extension by its dotted number; none if it is not there. @throws AttestationError if it is there
/// twice.
std::optional<Bytes> extension(const X509* certificate, const char* oid);

struct CrlFacts {
  std::string issuer;
  uint64_t number = 0;
  UtcTime issued{}, next{};
};
/// @throws AttestationError if a date is missing or no date, or if the number is over 64 bits.
CrlFacts facts_of(const X509_CRL* crl);

/// A path from `leaf` to `root` at a time.
struct ChainRequest {
  X509* leaf;
  std::vector<X509*> intermediates;  // may hold more than the path needs; none is trusted
  X509* root;                        // the only anchor
  std::vector<X509_CRL*> revocation_lists;
  bool check_revocation = false;  // of every certificate of the path: each issuer's list must be there, and valid
  UtcTime now;
};
/// @returns the path, leaf first, root last. @throws AttestationError "WHAT: why, of which certificate" if there is
/// none.
std::vector<UniqueX509> verify_chain(const ChainRequest& request, std::string_view what);

/// That `crl` is `issuer`'s, and valid now. @throws AttestationError.
void verify_crl(X509_CRL* crl, X509* issuer, UtcTime now, std::string_view what);
[[nodiscard]] bool is_revoked(X509_CRL* crl, X509* certificate);

}  // namespace tempo::attest
