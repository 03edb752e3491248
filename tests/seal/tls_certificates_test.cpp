#include "seal/tls_certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>

#include "base/file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace tls_certificates_test {

using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;
using UniqueCertificate = std::unique_ptr<X509, decltype(&X509_free)>;

UniqueCertificate load(const std::filesystem::path& path) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> file(BIO_new_file(path.c_str(), "r"), &BIO_free);
  return {PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr), &X509_free};
}

class TlsCertificates : public ::testing::Test {
 protected:
  TlsCertificates() { create_tls_certificates(tls_, {"worker.example", "gpu_worker_1", "10.0.0.7", "fd00::7"}); }

  /// Whether the authority's store accepts a certificate for `purpose`.
  bool is_accepted(const std::string& name, int purpose) {
    const auto ca = load(tls_ / "ca.pem"), leaf = load(tls_ / name);
    const std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)> store(X509_STORE_new(), &X509_STORE_free);
    X509_STORE_add_cert(store.get(), ca.get());
    const std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> context(X509_STORE_CTX_new(),
                                                                                  &X509_STORE_CTX_free);
    X509_STORE_CTX_init(context.get(), store.get(), leaf.get(), nullptr);
    X509_STORE_CTX_set_purpose(context.get(), purpose);
    return X509_verify_cert(context.get()) == 1;
  }

  TempFolder folder_;
  std::filesystem::path tls_ = folder_ / "tls";
};

TEST_F(TlsCertificates, EachCertificateServesOnlyItsPurpose) {
  EXPECT_TRUE(is_accepted("worker.pem", X509_PURPOSE_SSL_SERVER));
  EXPECT_FALSE(is_accepted("worker.pem", X509_PURPOSE_SSL_CLIENT));
  EXPECT_TRUE(is_accepted("master.pem", X509_PURPOSE_SSL_CLIENT));
  EXPECT_FALSE(is_accepted("master.pem", X509_PURPOSE_SSL_SERVER));
}

TEST_F(TlsCertificates, TheWorkersCertificateNamesTheHosts) {
  const auto worker = load(tls_ / "worker.pem");
  for (const char* name : {"localhost", "worker.example", "gpu_worker_1"})
    EXPECT_EQ(X509_check_host(worker.get(), name, 0, 0, nullptr), 1) << name;
  for (const char* address : {"127.0.0.1", "::1", "10.0.0.7", "fd00::7"})
    EXPECT_EQ(X509_check_ip_asc(worker.get(), address, 0), 1) << address;
  EXPECT_EQ(X509_check_host(worker.get(), "other.example", 0, 0, nullptr), 0);
  EXPECT_EQ(X509_check_ip_asc(worker.get(), "10.0.0.8", 0), 0);
}

TEST_F(TlsCertificates, KeysAreReadableByTheirOwnerOnly) {
  using std::filesystem::perms;
  for (const char* name : {"ca.key", "worker.key", "master.key"})
    EXPECT_EQ(std::filesystem::status(tls_ / name).permissions(), perms::owner_read | perms::owner_write) << name;
}

TEST_F(TlsCertificates, ExistingCertificatesAreNeverOverwritten) {
  const std::string before = read_text_file(tls_ / "ca.key", 4096);
  EXPECT_THAT(message_of<InputError>([&] { create_tls_certificates(tls_, {}); }), HasSubstr("never overwritten"));
  std::filesystem::remove(tls_ / "ca.pem");
  EXPECT_THAT(message_of<InputError>([&] { create_tls_certificates(tls_, {}); }), HasSubstr("ca.key: exists already"));
  EXPECT_FALSE(std::filesystem::exists(tls_ / "ca.pem")) << "nothing is written if anything is there";
  EXPECT_EQ(read_text_file(tls_ / "ca.key", 4096), before);
}

TEST_F(TlsCertificates, CertificatesAreValidForTheDaysAskedFor) {
  const auto days_of = [](const std::filesystem::path& path) {
    int days = 0, seconds = 0;
    const auto certificate = load(path);
    EXPECT_EQ(ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate.get())), 1);
    return days + (seconds > 12 * 60 * 60 ? 1 : 0);
  };
  create_tls_certificates(folder_ / "short", {}, 7);
  for (const char* name : {"worker.pem", "master.pem"}) {
    EXPECT_EQ(days_of(tls_ / name), kDefaultCertificateDays) << name;
    EXPECT_EQ(days_of(folder_ / "short" / name), 7) << name;
  }
  for (const int64_t days : {int64_t{0}, int64_t{-1}, kMaxCertificateDays + 1})
    EXPECT_THAT(message_of<InputError>([&] { create_tls_certificates(folder_ / "other", {}, days); }),
                HasSubstr("--days"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "other"));
}

TEST_F(TlsCertificates, BadHostNamesAreRefused) {
  for (const char* host : {"", "a b", "a,DNS:b", "a:b", "-a", "*.example", "a_b c", "caf\xc3\xa9"})
    EXPECT_THAT(message_of<InputError>([&] { create_tls_certificates(folder_ / "other", {host}); }),
                HasSubstr("--host"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "other"));
}

}  // namespace tls_certificates_test
}  // namespace tempo::seal
