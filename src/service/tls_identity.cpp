#include "service/tls_identity.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "base/path.h"
#include "base/text.h"
#include "tempo/error.h"
#include "wire/descriptor.h"

namespace tempo::service {
namespace {

void free_bio(BIO* bio) { BIO_free(bio); }
using UniqueBio = std::unique_ptr<BIO, OpensslFree<free_bio>>;

constexpr size_t kMaxKeyFileBytes = 4096;
constexpr long kDay = 24L * 60 * 60, kYears = 3650 * kDay;

void check(bool is_done, const char* what) {
  if (!is_done) throw RunError(fmt::format("service: OpenSSL cannot {}", what));
}

bool is_p256(const EVP_PKEY* key) {
  std::array<char, 64> group{};
  size_t length = 0;
  return key != nullptr && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
         EVP_PKEY_get_group_name(key, group.data(), group.size(), &length) == 1 &&
         std::string_view(group.data(), length) == "prime256v1";
}

attest::Bytes public_key_of(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int bytes = i2d_PUBKEY(key, &der);
  check(bytes > 0, "write a public key");
  const auto* begin = reinterpret_cast<const std::byte*>(der);
  attest::Bytes out(begin, begin + bytes);
  OPENSSL_free(der);
  return out;
}

UniqueCertificate certificate_for(EVP_PKEY* key) {
  UniqueCertificate certificate(X509_new());
  check(certificate != nullptr && X509_set_version(certificate.get(), X509_VERSION_3) == 1 &&
            ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1) == 1 &&
            X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kDay) != nullptr &&
            X509_gmtime_adj(X509_getm_notAfter(certificate.get()), kYears) != nullptr &&
            X509_set_pubkey(certificate.get(), key) == 1 && X509_sign(certificate.get(), key, EVP_sha256()) > 0,
        "make a certificate");
  return certificate;
}

UniqueKey read_key(const std::filesystem::path& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) fail_at(path, "read", errno);
  if ((status.st_mode & 077) != 0)
    throw InputError(fmt::format("{}: group or others may use this key, expected mode 0600", path.string()));
  std::string text = read_text_file(path, kMaxKeyFileBytes);
  const bool is_text = !find_non_text(text);
  const UniqueBio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  UniqueKey key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  sodium_memzero(text.data(), text.size());
  if (!is_text || !is_p256(key.get()))
    throw InputError(fmt::format("{}: expected a private key on P-256, as PEM", path.string()));
  return key;
}

/// @returns false, and writes nothing, if the name is taken.
bool write_key(const std::filesystem::path& path, EVP_PKEY* key) {
  if (path.has_parent_path() && !is_there(path.parent_path())) {
    make_folders(path.parent_path());
    ::chmod(path.parent_path().c_str(), 0700);
  }
  const UniqueBio bio(BIO_new(BIO_s_secmem()));
  check(bio != nullptr && PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1,
        "write a key");
  char* text = nullptr;
  const long bytes = BIO_get_mem_data(bio.get(), &text);
  NewFile file(path, 0600);
  file.write(std::string_view(text, static_cast<size_t>(bytes)));
  return file.commit();
}

}  // namespace

attest::Digest32 sha256(attest::ByteView bytes) {
  attest::Digest32 digest{};
  check(EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()), nullptr, EVP_sha256(),
                   nullptr) == 1,
        "hash");
  return digest;
}

TlsIdentity::TlsIdentity(UniqueKey key) : key_(std::move(key)), certificate_(certificate_for(key_.get())) {}

TlsIdentity TlsIdentity::make() {
  UniqueKey key(EVP_EC_gen("P-256"));
  check(key != nullptr, "make a P-256 key");
  return TlsIdentity(std::move(key));
}

TlsIdentity TlsIdentity::load_or_create(const std::filesystem::path& path, bool* created) {
  TlsIdentity identity = make();
  const bool is_new = !is_there(path) && write_key(path, identity.key());
  if (created != nullptr) *created = is_new;
  return is_new ? std::move(identity) : TlsIdentity(read_key(path));
}

attest::Bytes TlsIdentity::spki() const { return public_key_of(key_.get()); }

attest::Bytes spki_of(X509* certificate) {
  EVP_PKEY* key = certificate != nullptr ? X509_get0_pubkey(certificate) : nullptr;
  if (!is_p256(key)) throw ProtocolError("tls: the peer has no key on P-256");
  return public_key_of(key);
}

}  // namespace tempo::service
