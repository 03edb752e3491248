// Who gets a connection over grpc://, and who does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <cstring>
#include <filesystem>
#include <memory>

#include "offload/transport/grpc.h"
#include "offload/transport_servers.h"
#include "seal/tls_certificates.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "wire/descriptor.h"
#include "worker/server/grpc_server.h"

namespace tempo::offload {
namespace {

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

TEST_F(GrpcTls, ServesMastersOfItsAuthority) {
  EXPECT_THAT(server_->address(), HasSubstr("grpc://127.0.0.1:"));
  expect_served(host_port());
  expect_served("localhost" + port());
}

TEST_F(GrpcTls, RefusesMastersOfAnotherAuthority) {
  const TempFolder folder;
  seal::create_tls_certificates(folder / "other", {});
  EXPECT_THAT(refusal(folder / "other"), AnyOf(HasSubstr("no worker answers"), HasSubstr("refused the session")));
  // It believes the worker, but has a certificate that the worker does not believe.
  std::filesystem::remove(folder / "other/ca.pem");
  install(testing::tls_folder() + "/ca.pem", folder / "other/ca.pem");
  EXPECT_THAT(refusal(folder / "other"), AnyOf(HasSubstr("refused the session"), HasSubstr("no worker answers")));
  expect_served(host_port());
}

TEST_F(GrpcTls, AWorkersCertificateDoesNotMakeAMaster) {
  const TempFolder folder;
  const std::filesystem::path real = testing::tls_folder();
  install(real / "ca.pem", folder / "ca.pem");
  install(real / "worker.pem", folder / "master.pem");
  install(real / "worker.key", folder / "master.key");
  EXPECT_THAT(refusal(folder.path()), AnyOf(HasSubstr("refused the session"), HasSubstr("no worker answers")));
}

TEST_F(GrpcTls, AMastersCertificateDoesNotMakeAWorker) {
  const TempFolder folder;
  const std::filesystem::path real = testing::tls_folder();
  install(real / "ca.pem", folder / "ca.pem");
  install(real / "master.pem", folder / "worker.pem");
  install(real / "master.key", folder / "worker.key");
  worker::ServerOptions options;
  options.tls_folder = folder.path();
  server_ = worker::serve_grpc("127.0.0.1:0", options);
  EXPECT_THAT(refusal(real), HasSubstr("no worker answers"));
}

TEST_F(GrpcTls, AWorkerOfAnotherNameIsNotBelieved) {
  EXPECT_THAT(
      message_of<WorkerLostError>([&] { make_grpc_worker("127.0.0.2" + port(), testing::tls_folder(), kImpatient); }),
      HasSubstr("no worker answers"));
  worker::ServerOptions options;
  options.tls_folder = testing::tls_folder();
  server_ = worker::serve_grpc("127.0.0.2:0", options);  // a host that the certificate does not name
  EXPECT_THAT(
      message_of<WorkerLostError>([&] { make_grpc_worker("127.0.0.2" + port(), testing::tls_folder(), kImpatient); }),
      HasSubstr("no worker answers"));
}

TEST_F(GrpcTls, PlaintextMeetsTlsAndTheOtherWayRound) {
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

TEST_F(GrpcTls, SpeaksTls13AndNothingBefore) {
  EXPECT_EQ(handshake(port(), TLS1_3_VERSION), "TLSv1.3");
  EXPECT_EQ(handshake(port(), TLS1_2_VERSION), "closed by the server");
}

TEST_F(GrpcTls, CertificatesThatAreMissingOrOpenAreSaidSo) {
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

TEST_F(GrpcTls, APortInUseIsSaidSo) {
  worker::ServerOptions options;
  EXPECT_THAT(message_of<InputError>([&] { worker::serve_insecure(host_port(), options); }),
              HasSubstr("cannot listen there"));
}

}  // namespace
}  // namespace tempo::offload
