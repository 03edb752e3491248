#include "seal/tls_certificates.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <memory>
#include <span>
#include <string_view>

#include "base/file.h"
#include "base/path.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

template <auto kFree>
struct Free {
  template <typename Handle>
  void operator()(Handle* handle) const {
    kFree(handle);
  }
};
void free_bio(BIO* bio) { BIO_free(bio); }
using UniqueKey = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using UniqueCertificate = std::unique_ptr<X509, Free<X509_free>>;
using UniqueExtension = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;
using UniqueNumber = std::unique_ptr<BIGNUM, Free<BN_free>>;
using UniqueBio = std::unique_ptr<BIO, Free<free_bio>>;

constexpr long kDay = 24L * 60 * 60;
constexpr long kAuthorityDays = kMaxCertificateDays;  // what it has signed is good for no longer
constexpr long kClockSkew = 60L * 60;  // a machine whose clock is behind must not refuse a new certificate
constexpr size_t kMaxHosts = 100;

void check(bool is_done, const char* what) {
  if (!is_done) throw RunError(fmt::format("tls certificates: OpenSSL cannot {}", what));
}

template <typename Handle>
Handle checked(Handle handle, const char* what) {
  check(handle != nullptr, what);
  return handle;
}

UniqueKey new_key() { return checked(UniqueKey(EVP_EC_gen("P-256")), "make a P-256 key"); }

/// 127 random bits, not 0.
void set_serial(X509* certificate) {
  const auto serial = checked(UniqueNumber(BN_new()), "make a number");
  check(BN_rand(serial.get(), 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1, "draw a serial number");
  check(BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) != nullptr, "set a serial number");
}

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const auto extension =
      checked(UniqueExtension(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str())), "make an extension");
  check(X509_add_ext(certificate, extension.get(), -1) == 1, "add an extension");
}

struct Signer {
  X509* certificate;
  EVP_PKEY* key;
};

/// What both kinds of certificate have: all but the extensions and the signature.
UniqueCertificate new_certificate(const std::string& name, EVP_PKEY* key, long days) {
  auto certificate = checked(UniqueCertificate(X509_new()), "make a certificate");
  check(X509_set_version(certificate.get(), X509_VERSION_3) == 1, "set a version");
  set_serial(certificate.get());
  check(X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kClockSkew) != nullptr, "set a date");
  check(X509_gmtime_adj(X509_getm_notAfter(certificate.get()), days * kDay) != nullptr, "set a date");
  check(X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0) == 1,
        "set a name");
  check(X509_set_pubkey(certificate.get(), key) == 1, "set a public key");
  return certificate;
}

void sign(X509* certificate, const Signer& signer) {
  check(X509_set_issuer_name(certificate, X509_get_subject_name(signer.certificate)) == 1, "set an issuer");
  add_extension(certificate, signer.certificate, NID_subject_key_identifier, "hash");
  // Second: the authority's own certificate has the key identifier it refers to only now.
  add_extension(certificate, signer.certificate, NID_authority_key_identifier, "keyid:always");
  check(X509_sign(certificate, signer.key, EVP_sha256()) > 0, "sign a certificate");
}

UniqueCertificate new_authority(EVP_PKEY* key) {
  UniqueCertificate authority = new_certificate("Tempo authority", key, kAuthorityDays);
  add_extension(authority.get(), authority.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  add_extension(authority.get(), authority.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  sign(authority.get(), {authority.get(), key});
  return authority;
}

/// @param usage serverAuth or clientAuth: a worker cannot pass for the master, nor the other way round.
/// @param names as of subjectAltName; empty for none.
UniqueCertificate new_leaf(const std::string& name, EVP_PKEY* key, const Signer& signer, long days,
                           const std::string& usage, const std::string& names) {
  UniqueCertificate leaf = new_certificate(name, key, days);
  add_extension(leaf.get(), signer.certificate, NID_basic_constraints, "critical,CA:FALSE");
  add_extension(leaf.get(), signer.certificate, NID_key_usage, "critical,digitalSignature");
  add_extension(leaf.get(), signer.certificate, NID_ext_key_usage, usage);
  if (!names.empty()) add_extension(leaf.get(), signer.certificate, NID_subject_alt_name, names);
  sign(leaf.get(), signer);
  return leaf;
}

bool is_address(const std::string& host) {
  in6_addr address = {};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 || inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

/// "DNS:localhost,IP:127.0.0.1,...". OpenSSL gives commas and colons a meaning: hosts have none but IPv6's.
std::string alternative_names(const std::vector<std::string>& hosts) {
  if (hosts.size() > kMaxHosts)
    throw InputError(fmt::format("--host: got {} hosts, expected at most {}", hosts.size(), kMaxHosts));
  std::string names = "DNS:localhost,IP:127.0.0.1,IP:::1";
  for (const std::string& host : hosts) {
    const bool is_name = !host.empty() && host.size() <= 253 && host.front() != '-' &&
                         std::all_of(host.begin(), host.end(), [](unsigned char c) {
                           return c < 128 && (std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_');
                         });
    if (!is_name && !is_address(host))
      throw InputError(fmt::format("--host: got \"{}\", expected a host name or an address", host));
    names += fmt::format(",{}:{}", is_address(host) ? "IP" : "DNS", host);
  }
  return names;
}

[[noreturn]] void refuse_taken(const std::filesystem::path& path) {
  throw InputError(fmt::format("{}: exists already; keys and certificates are never overwritten", path.string()));
}

/// Never overwrites. @param mode 0600 for keys.
void write_new(const std::filesystem::path& path, std::span<const char> text, mode_t mode) {
  NewFile file(path, mode);
  file.write(std::as_bytes(text));
  if (!file.commit()) refuse_taken(path);
}

std::span<const char> text_of(BIO* bio) {
  char* text = nullptr;
  const long bytes = BIO_get_mem_data(bio, &text);
  check(bytes > 0, "write PEM");
  return {text, static_cast<size_t>(bytes)};
}

/// The text of the key is in memory that is wiped when freed.
void write_pair(const std::filesystem::path& folder, const std::string& name, X509* certificate, EVP_PKEY* key) {
  const auto key_text = checked(UniqueBio(BIO_new(BIO_s_secmem())), "make a buffer");
  check(PEM_write_bio_PrivateKey(key_text.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1, "write a key");
  write_new(folder / (name + ".key"), text_of(key_text.get()), 0600);
  const auto text = checked(UniqueBio(BIO_new(BIO_s_mem())), "make a buffer");
  check(PEM_write_bio_X509(text.get(), certificate) == 1, "write a certificate");
  write_new(folder / (name + ".pem"), text_of(text.get()), 0644);
}

void make_folder(const std::filesystem::path& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) fail_at(folder, "made", errno);
  for (const char* name : {"ca", "worker", "master"})
    for (const char* kind : {".pem", ".key"})
      if (const auto path = folder / (std::string(name) + kind); is_there(path)) refuse_taken(path);
}

}  // namespace

void create_tls_certificates(const std::filesystem::path& folder, const std::vector<std::string>& hosts, int64_t days) {
  if (days < 1 || days > kMaxCertificateDays)
    throw InputError(fmt::format("--days: got {}, expected 1 to {}", days, kMaxCertificateDays));
  const std::string names = alternative_names(hosts);
  make_folder(folder);
  const UniqueKey ca_key = new_key(), worker_key = new_key(), master_key = new_key();
  const UniqueCertificate ca = new_authority(ca_key.get());
  const Signer signer = {ca.get(), ca_key.get()};
  const auto worker = new_leaf("Tempo worker", worker_key.get(), signer, days, "serverAuth", names);
  const auto master = new_leaf("Tempo master", master_key.get(), signer, days, "clientAuth", {});
  write_pair(folder, "ca", ca.get(), ca_key.get());
  write_pair(folder, "worker", worker.get(), worker_key.get());
  write_pair(folder, "master", master.get(), master_key.get());
}

}  // namespace tempo::seal
