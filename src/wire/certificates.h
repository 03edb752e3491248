/// Says in words why a certificate of a connection is not accepted, and how long one's own are.
#pragma once

#include <openssl/x509.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "wire/tls_folder.h"

namespace tempo::wire {

template <auto kFree>
struct FreeWith {
  template <typename Handle>
  void operator()(Handle* handle) const {
    kFree(handle);
  }
};
using UniqueCertificate = std::unique_ptr<X509, FreeWith<X509_free>>;
using UniqueStore = std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>>;

/// All certificates of a PEM text, the end's own first. @param source for messages. @throws InputError if there is none
std::vector<UniqueCertificate> parse_certificates(const std::string& pem, const std::string& source);

/// The authorities of a PEM text. @throws as parse_certificates
UniqueStore authorities_of(const std::string& pem, const std::string& source);

/// "has expired on 2026-01-31", "is valid from 2027-01-31, ...", "is signed by another authority than ca.pem's".
/// @param error X509_V_ERR_..., @param certificate that it is about.
std::string rejection(int error, const X509* certificate);

/// Whether the other side would accept this side's certificate, as far as the own files and the own clock tell.
/// @throws InputError if it has expired, is not valid yet, is signed by none of `identity.ca`, or the key is another's.
void check_own_certificate(const TlsIdentity& identity, const std::filesystem::path& folder, const std::string& name);

/// One line about the certificate of `identity` that ends first, where that is within 30 days; else nothing.
std::string expiry_warning(const TlsIdentity& identity, const std::filesystem::path& folder, const std::string& name);

}  // namespace tempo::wire
