#include "wire/certificates.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>

#include "tempo/error.h"

namespace tempo::wire {
namespace {

using UniqueBio = std::unique_ptr<BIO, FreeWith<BIO_free_all>>;
using UniqueKey = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using UniqueContext = std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>>;
using UniqueStack = std::unique_ptr<STACK_OF(X509), void (*)(STACK_OF(X509)*)>;

constexpr int kWarningDays = 30;

template <typename Handle>
Handle checked(Handle handle) {
  if (handle == nullptr) throw RunError("tls: OpenSSL has no memory");
  return handle;
}

UniqueBio reader_of(const std::string& pem) {
  return checked(UniqueBio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))));
}

/// A key that asks for a password is none that `keygen` made.
int no_password(char*, int, int, void*) { return 0; }

std::string date_of(const ASN1_TIME* time) {
  std::tm date{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &date) != 1) return "an unreadable date";
  return fmt::format("{:04}-{:02}-{:02}", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday);
}

/// X509_V_OK, or why `own.front()` is not accepted by `authorities`, and which certificate it is about.
int verify(X509_STORE* authorities, const std::vector<UniqueCertificate>& own, X509*& about) {
  const UniqueStack chain(checked(sk_X509_new_null()), [](STACK_OF(X509) * stack) { sk_X509_free(stack); });
  for (size_t i = 1; i < own.size(); ++i) sk_X509_push(chain.get(), own[i].get());
  const UniqueContext context = checked(UniqueContext(X509_STORE_CTX_new()));
  if (X509_STORE_CTX_init(context.get(), authorities, own.front().get(), chain.get()) != 1)
    throw RunError("tls: OpenSSL cannot verify certificates");
  if (X509_verify_cert(context.get()) == 1) return X509_V_OK;
  about = X509_STORE_CTX_get_current_cert(context.get());
  if (about != own.front().get()) about = X509_cmp(about, own.front().get()) == 0 ? own.front().get() : about;
  return X509_STORE_CTX_get_error(context.get());
}

int days_left(const X509* certificate) {
  int days = 0, seconds = 0;
  return ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate)) == 1 ? days : 0;
}

}  // namespace

std::vector<UniqueCertificate> parse_certificates(const std::string& pem, const std::string& source) {
  const UniqueBio text = reader_of(pem);
  std::vector<UniqueCertificate> found;
  while (UniqueCertificate one{PEM_read_bio_X509(text.get(), nullptr, &no_password, nullptr)})
    found.push_back(std::move(one));
  ERR_clear_error();  // how OpenSSL says that the text ends
  if (found.empty()) throw InputError(fmt::format("{}: holds no certificate", source));
  return found;
}

UniqueStore authorities_of(const std::string& pem, const std::string& source) {
  UniqueStore store = checked(UniqueStore(X509_STORE_new()));
  for (const UniqueCertificate& authority : parse_certificates(pem, source))
    if (X509_STORE_add_cert(store.get(), authority.get()) != 1) throw RunError("tls: OpenSSL takes no authority");
  // As gRPC does: an authority need not be one that has signed itself.
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  return store;
}

std::string rejection(int error, const X509* certificate) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "has expired on " + date_of(X509_get0_notAfter(certificate));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return fmt::format("is valid from {}, which this machine's clock has not reached",
                         date_of(X509_get0_notBefore(certificate)));
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_AKID_SKID_MISMATCH:
      return "is signed by another authority than ca.pem's";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "is not for this host";
    default:
      return fmt::format("is not accepted: {}", X509_verify_cert_error_string(error));
  }
}

void check_own_certificate(const TlsIdentity& identity, const std::filesystem::path& folder, const std::string& name) {
  const std::string source = (folder / (name + ".pem")).string(), ca = (folder / "ca.pem").string();
  const auto own = parse_certificates(identity.certificate, source);
  const UniqueStore authorities = authorities_of(identity.ca, ca);
  X509* about = nullptr;
  const int error = verify(authorities.get(), own, about);
  constexpr const char* kRemedy = "expected certificates of `tempo keygen --tls`, made anew for all machines";
  if (error != X509_V_OK) {
    const bool is_own = about == nullptr || about == own.front().get();
    throw InputError(fmt::format("{}: this certificate {}; {}", is_own ? source : ca,
                                 rejection(error, about == nullptr ? own.front().get() : about), kRemedy));
  }
  const UniqueKey key(PEM_read_bio_PrivateKey(reader_of(identity.key).get(), nullptr, &no_password, nullptr));
  const bool is_fitting = key && X509_check_private_key(own.front().get(), key.get()) == 1;
  ERR_clear_error();
  if (!is_fitting)
    throw InputError(
        fmt::format("{}: is not the private key of {}; {}", (folder / (name + ".key")).string(), source, kRemedy));
}

std::string expiry_warning(const TlsIdentity& identity, const std::filesystem::path& folder, const std::string& name) {
  std::filesystem::path first_file;
  UniqueCertificate first;
  for (const auto& [file, pem] :
       {std::pair(folder / (name + ".pem"), &identity.certificate), std::pair(folder / "ca.pem", &identity.ca)})
    for (UniqueCertificate& one : parse_certificates(*pem, file.string()))
      if (first == nullptr || ASN1_TIME_compare(X509_get0_notAfter(one.get()), X509_get0_notAfter(first.get())) < 0) {
        first = std::move(one);
        first_file = file;
      }
  const int days = days_left(first.get());
  if (days >= kWarningDays) return {};
  return fmt::format(
      "warning: {}: this certificate expires on {}, in {} days; make new ones for all machines: tempo "
      "keygen --tls NEW-DIR",
      first_file.string(), date_of(X509_get0_notAfter(first.get())), days);
}

}  // namespace tempo::wire
