// Who gets a connection over grpc://, and who does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <tuple>

#include "offload/transport/grpc.h"
#include "offload/transport_servers.h"
#include "seal/tls_certificates.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "wire/descriptor.h"
#include "wire/tls_diagnosis.h"
#include "wire/tls_folder.h"
#include "worker/server/grpc_server.h"

namespace tempo::offload {
namespace grpc_tls_test {

using std::chrono::milliseconds;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;

constexpr GrpcOptions kImpatient = {.connect = milliseconds(1'500)};

class GrpcTls : public ::testing::Test {
 protected:
  GrpcTls() {
    worker::ServerOptions options;
    options.tls_folder = testing::tls_folder();
    server_ = worker::serve_grpc("127.0.0.1:0", options);
  }
  [[nodiscard]] std::string port() const { return server_->address().substr(server_->address().rfind(':')); }
  [[nodiscard]] std::string host_port() const { return "127.0.0.1" + port(); }

  void expect_served(const std::string& address) const {
    const auto worker = make_grpc_worker(address, testing::tls_folder(), kImpatient);
    const Buffer operand = worker->allocate({.shape = {4}});
    std::memset(operand.data(), 1, operand.bytes());
    worker->put(1, operand);
    EXPECT_EQ(worker->submit(Fetch{1}).get().bytes(), 16U);
  }
  [[nodiscard]] std::string refusal(const std::filesystem::path& folder) const {
    return message_of<WorkerLostError>([&] { make_grpc_worker(host_port(), folder, kImpatient); });
  }

  std::unique_ptr<worker::Server> server_;
};

void install(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::copy_file(from, to);
  std::filesystem::permissions(to, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(GrpcTls, AWorkerServesMastersOfItsAuthority) {
  EXPECT_THAT(server_->address(), HasSubstr("grpc://127.0.0.1:"));
  expect_served(host_port());
  expect_served("localhost" + port());
}

TEST_F(GrpcTls, MastersOfAnotherAuthorityAreRefused) {
  const TempFolder folder;
  seal::create_tls_certificates(folder / "other", {});
  EXPECT_THAT(refusal(folder / "other"),
              HasSubstr("the worker's certificate is signed by another authority than ca.pem's"));
  // It believes the worker, too, but has a certificate that the worker does not believe.
  testing::write_text(folder / "other/ca.pem", text_of(folder / "other/ca.pem") +
                                                   text_of(std::filesystem::path(testing::tls_folder()) / "ca.pem"));
  EXPECT_THAT(refusal(folder / "other"), HasSubstr("the worker does not accept this side's master.pem"));
  expect_served(host_port());
}

/// A folder of good certificates, but for the dates of one: it is valid from `begin` to `end`, in days from today.
void make_folder(const std::filesystem::path& folder, const std::string& name, int begin, int end) {
  seal::create_tls_certificates(folder, {});
  const auto open = [&](const std::string& file, const char* mode) {
    return std::unique_ptr<BIO, decltype(&BIO_free)>(BIO_new_file((folder / file).c_str(), mode), &BIO_free);
  };
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(open(name + ".pem", "r").get(), nullptr, nullptr, nullptr), &X509_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> authority(
      PEM_read_bio_PrivateKey(open("ca.key", "r").get(), nullptr, nullptr, nullptr), &EVP_PKEY_free);
  X509_time_adj_ex(X509_getm_notBefore(certificate.get()), begin, 0, nullptr);
  X509_time_adj_ex(X509_getm_notAfter(certificate.get()), end, 0, nullptr);
  ASSERT_GT(X509_sign(certificate.get(), authority.get(), EVP_sha256()), 0);
  ASSERT_EQ(PEM_write_bio_X509(open(name + ".pem", "w").get(), certificate.get()), 1);
}

TEST_F(GrpcTls, UnusableOwnCertificatesAreRefusedBeforeConnecting) {
  const TempFolder folder;
  const auto refusal_at_start = [&](const std::string& which) {
    worker::ServerOptions options;
    options.tls_folder = folder / which;
    const std::string of_worker = message_of<InputError>([&] { worker::serve_grpc("127.0.0.1:0", options); });
    const std::string of_master = message_of<InputError>([&] { make_grpc_worker(host_port(), folder / which); });
    return of_worker + of_master;
  };
  for (const auto& [which, begin, end, expected] :
       {std::tuple("expired", -20, -10, "ca.pem: this certificate has expired on "),
        std::tuple("future", 10, 20, "ca.pem: this certificate is valid from ")}) {
    make_folder(folder / which, "ca", begin, end);
    EXPECT_THAT(refusal_at_start(which), ::testing::AllOf(HasSubstr(expected), HasSubstr("keygen --tls"))) << which;
  }
  make_folder(folder / "worker", "worker", -20, -10);
  worker::ServerOptions options;
  options.tls_folder = folder / "worker";
  EXPECT_THAT(message_of<InputError>([&] { worker::serve_grpc("127.0.0.1:0", options); }),
              HasSubstr("worker.pem: this certificate has expired on "));
  make_folder(folder / "master", "master", 10, 20);
  EXPECT_THAT(message_of<InputError>([&] { make_grpc_worker(host_port(), folder / "master"); }),
              HasSubstr("master.pem: this certificate is valid from "));
  seal::create_tls_certificates(folder / "other", {});
  for (const char* name : {"worker", "master"}) {
    std::filesystem::remove(folder / "other" / (std::string(name) + ".key"));
    install(std::filesystem::path(testing::tls_folder()) / (std::string(name) + ".key"),
            folder / "other" / (std::string(name) + ".key"));
  }
  EXPECT_THAT(refusal_at_start("other"), HasSubstr("is not the private key of"));
  std::filesystem::remove(folder / "other/ca.pem");
  install(std::filesystem::path(testing::tls_folder()) / "ca.pem", folder / "other/ca.pem");
  EXPECT_THAT(refusal_at_start("other"), HasSubstr("is signed by another authority than ca.pem's"));
}

TEST_F(GrpcTls, AWarningNamesCertificatesThatExpireWithinAMonth) {
  const TempFolder folder;
  EXPECT_EQ(grpc_expiry_warning(testing::tls_folder()), "");
  for (const char* name : {"master", "ca"}) {
    make_folder(folder / name, name, -1, 20);
    EXPECT_THAT(grpc_expiry_warning(folder / name),
                ::testing::AllOf(HasSubstr(std::string(name) + ".pem: this certificate expires on "),
                                 HasSubstr("keygen --tls")));
  }
  make_folder(folder / "worker", "worker", -1, 20);
  worker::ServerOptions options;
  options.tls_folder = folder / "worker";
  ::testing::internal::CaptureStderr();
  worker::serve_grpc("127.0.0.1:0", options);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("worker.pem: this certificate expires on "));
}

/// Serves TLS once with a certificate that no worker of ours would start with.
class TlsServerOnce {
 public:
  explicit TlsServerOnce(const std::filesystem::path& folder) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size);
    listen(socket_.get(), 1);
    getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, folder] { serve(folder); });
  }
  ~TlsServerOnce() { thread_.join(); }
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  void serve(const std::filesystem::path& folder) {
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free);
    SSL_CTX_use_certificate_file(context.get(), (folder / "worker.pem").c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context.get(), (folder / "worker.key").c_str(), SSL_FILETYPE_PEM);
    const wire::UniqueDescriptor peer(accept(socket_.get(), nullptr, nullptr));
    const std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(context.get()), &SSL_free);
    SSL_set_fd(tls.get(), peer.get());
    SSL_accept(tls.get());
  }

  wire::UniqueDescriptor socket_;
  uint16_t port_ = 0;
  std::thread thread_;
};

TEST_F(GrpcTls, TheReasonForRefusingAWorkersCertificateIsExplained) {
  const TempFolder folder;
  make_folder(folder / "expired", "worker", -20, -10);
  make_folder(folder / "future", "worker", 10, 20);
  seal::create_tls_certificates(folder / "good", {});
  const auto explain = [&](const std::filesystem::path& its, const std::filesystem::path& own) {
    const TlsServerOnce server(its);
    return wire::explain_tls_failure({"127.0.0.1", server.port()}, wire::load_tls_identity(own, "master"),
                                     std::chrono::seconds(60));
  };
  EXPECT_THAT(explain(folder / "expired", folder / "expired"), HasSubstr("the worker's certificate has expired on "));
  EXPECT_THAT(explain(folder / "future", folder / "future"), HasSubstr("the worker's certificate is valid from "));
  EXPECT_THAT(explain(folder / "good", folder / "future"), HasSubstr("is signed by another authority"));
}

TEST_F(GrpcTls, AWorkersCertificateIsRefusedAsAMasters) {
  const TempFolder folder;
  const std::filesystem::path real = testing::tls_folder();
  install(real / "ca.pem", folder / "ca.pem");
  install(real / "worker.pem", folder / "master.pem");
  install(real / "worker.key", folder / "master.key");
  EXPECT_THAT(refusal(folder.path()), HasSubstr("the worker does not accept this side's master.pem"));
}

TEST_F(GrpcTls, AMastersCertificateIsRefusedAsAWorkers) {
  const TempFolder folder;
  const std::filesystem::path real = testing::tls_folder();
  install(real / "ca.pem", folder / "ca.pem");
  install(real / "master.pem", folder / "worker.pem");
  install(real / "master.key", folder / "worker.key");
  worker::ServerOptions options;
  options.tls_folder = folder.path();
  server_ = worker::serve_grpc("127.0.0.1:0", options);
  EXPECT_THAT(refusal(real), HasSubstr("the worker's certificate is not accepted: "));
}

TEST_F(GrpcTls, AWorkerAtAHostThatItsCertificateDoesNotNameIsRefused) {
  EXPECT_THAT(
      message_of<WorkerLostError>([&] { make_grpc_worker("127.0.0.2" + port(), testing::tls_folder(), kImpatient); }),
      HasSubstr("no worker answers"));
  worker::ServerOptions options;
  options.tls_folder = testing::tls_folder();
  server_ = worker::serve_grpc("127.0.0.2:0", options);  // a host that the certificate does not name
  EXPECT_THAT(
      message_of<WorkerLostError>([&] { make_grpc_worker("127.0.0.2" + port(), testing::tls_folder(), kImpatient); }),
      HasSubstr("the worker's certificate is not for this host"));
}

TEST_F(GrpcTls, PlaintextAndTlsDoNotConnectToEachOther) {
  EXPECT_THROW(make_insecure_worker(host_port(), kImpatient), WorkerLostError);
  server_ = worker::serve_insecure("127.0.0.1:0", {});
  EXPECT_THROW(make_grpc_worker(host_port(), testing::tls_folder(), kImpatient), WorkerLostError);
}

/// What a client gets that has a good certificate and offers no TLS beyond `most`: a version, or a closed connection.
/// Not to be mistaken for one that has nothing to offer, which fails before it asks.
std::string handshake(const std::string& port, int most) {
  const std::filesystem::path folder = testing::tls_folder();
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  SSL_CTX_clear_options(context.get(), SSL_OP_NO_TLSv1_2);  // which this process does not offer by now
  SSL_CTX_set_max_proto_version(context.get(), most);
  EXPECT_EQ(SSL_CTX_use_certificate_file(context.get(), (folder / "master.pem").c_str(), SSL_FILETYPE_PEM), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context.get(), (folder / "master.key").c_str(), SSL_FILETYPE_PEM), 1);
  const unsigned char h2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), h2, sizeof h2);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(port.substr(1))));
  const wire::UniqueDescriptor socket(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(context.get()), &SSL_free);
  SSL_set_fd(tls.get(), socket.get());
  ERR_clear_error();
  if (SSL_connect(tls.get()) == 1) return SSL_get_version(tls.get());
  return ERR_GET_REASON(ERR_get_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? "closed by the server" : "other";
}

TEST_F(GrpcTls, OnlyTls13IsSpoken) {
  EXPECT_EQ(handshake(port(), TLS1_3_VERSION), "TLSv1.3");
  EXPECT_EQ(handshake(port(), TLS1_2_VERSION), "closed by the server");
}

TEST_F(GrpcTls, MissingCertificatesAndReadableKeysAreReported) {
  const TempFolder folder;
  worker::ServerOptions options;
  EXPECT_THAT(message_of<InputError>([&] { worker::serve_grpc("127.0.0.1:0", options); }), HasSubstr("needs --tls"));
  EXPECT_THAT(message_of<InputError>([&] { make_grpc_worker(host_port(), ""); }), HasSubstr("needs --tls"));
  EXPECT_THAT(message_of<InputError>([&] { make_grpc_worker(host_port(), folder.path()); }), HasSubstr("ca.pem"));
  seal::create_tls_certificates(folder / "tls", {});
  std::filesystem::permissions(folder / "tls/master.key", std::filesystem::perms(0644));
  EXPECT_THAT(message_of<InputError>([&] { make_grpc_worker(host_port(), folder / "tls"); }),
              HasSubstr("master.key: key file has mode 0644"));
  testing::write_text(folder / "tls/ca.pem", "not a certificate");
  EXPECT_THAT(message_of<InputError>([&] { make_grpc_worker(host_port(), folder / "tls"); }), HasSubstr("not a PEM"));
}

TEST_F(GrpcTls, APortInUseIsReported) {
  worker::ServerOptions options;
  EXPECT_THAT(message_of<InputError>([&] { worker::serve_insecure(host_port(), options); }),
              HasSubstr("insecure: cannot listen at " + host_port() + ": Address already in use"));
}

}  // namespace grpc_tls_test
}  // namespace tempo::offload
