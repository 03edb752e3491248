#include "wire/tls_diagnosis.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <memory>

#include "wire/certificates.h"
#include "wire/descriptor.h"

namespace tempo::wire {
namespace {

using UniqueBio = std::unique_ptr<BIO, FreeWith<BIO_free_all>>;
using UniqueKey = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using UniqueTlsContext = std::unique_ptr<SSL_CTX, FreeWith<SSL_CTX_free>>;
using UniqueTls = std::unique_ptr<SSL, FreeWith<SSL_free>>;
using Addresses = std::unique_ptr<addrinfo, FreeWith<freeaddrinfo>>;

UniqueDescriptor connect_to(const HostPort& worker, std::chrono::milliseconds patience) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  if (getaddrinfo(worker.host.c_str(), std::to_string(worker.port).c_str(), &hints, &found) != 0) return {};
  const Addresses addresses(found);
  const timeval limit = {.tv_sec = patience.count() / 1000, .tv_usec = patience.count() % 1000 * 1000};
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    UniqueDescriptor socket(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    // The first bounds the connecting, too.
    if (socket && setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
        setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
        ::connect(socket.get(), at->ai_addr, at->ai_addrlen) == 0)
      return socket;
  }
  return {};
}

/// Keeps the certificate that is not accepted: the connection itself forgets it.
int keep_rejected(int is_accepted, X509_STORE_CTX* chain) {
  const auto* tls = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  X509* certificate = X509_STORE_CTX_get_current_cert(chain);
  auto* rejected = static_cast<UniqueCertificate*>(SSL_get_app_data(tls));
  if (is_accepted == 0 && certificate != nullptr && X509_up_ref(certificate) == 1) rejected->reset(certificate);
  return is_accepted;
}

UniqueTlsContext context_of(const TlsIdentity& identity) {
  UniqueTlsContext context(SSL_CTX_new(TLS_client_method()));
  const auto own = parse_certificates(identity.certificate, "certificate");
  const UniqueBio text(BIO_new_mem_buf(identity.key.data(), static_cast<int>(identity.key.size())));
  const UniqueKey key(text ? PEM_read_bio_PrivateKey(text.get(), nullptr, nullptr, nullptr) : nullptr);
  constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  if (!context || !key || SSL_CTX_use_certificate(context.get(), own.front().get()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1 ||
      SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof kHttp2) != 0)
    return nullptr;
  SSL_CTX_set_cert_store(context.get(), authorities_of(identity.ca, "ca.pem").release());
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, keep_rejected);
  return context;
}

void expect_host(SSL* tls, const std::string& host) {
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host.c_str()) == 1) return;
  SSL_set1_host(tls, host.c_str());
  SSL_set_tlsext_host_name(tls, host.c_str());
}

/// Moves bytes between OpenSSL and the socket, which a signal must not end. False once the peer sends no more.
bool exchange(SSL* tls, int socket) {
  char bytes[4096];
  for (int count = 0; (count = BIO_read(SSL_get_wbio(tls), bytes, sizeof bytes)) > 0;)
    if (send(socket, bytes, static_cast<size_t>(count), MSG_NOSIGNAL) != count) break;  // its alert may be here yet
  const ssize_t count = recv(socket, bytes, sizeof bytes, 0);
  return count > 0 && BIO_write(SSL_get_rbio(tls), bytes, static_cast<int>(count)) == count;
}

/// @param step SSL_connect or a read. True if it succeeds; false if it fails, or the peer has closed the connection.
template <typename Step>
bool carry_out(SSL* tls, int socket, const Step& step) {
  ERR_clear_error();
  for (;;) {
    const int result = step(tls);
    if (result > 0) return true;
    if (SSL_get_error(tls, result) != SSL_ERROR_WANT_READ || !exchange(tls, socket)) return false;
  }
}

/// The alert that the worker answered this side's certificate with.
std::string refusal_by_worker() {
  constexpr const char* kBegin = "the worker does not accept this side's master.pem: ";
  switch (ERR_GET_REASON(ERR_peek_error())) {
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
      return std::string(kBegin) + "by its clock it has expired, or is not valid yet";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
      return std::string(kBegin) + "it is signed by another authority than the worker's ca.pem";
    default:
      return std::string(kBegin) + "the worker's ca.pem may be of another authority, or its clock be wrong";
  }
}

}  // namespace

std::string explain_tls_failure(const HostPort& worker, const TlsIdentity& identity,
                                std::chrono::milliseconds patience) {
  const UniqueDescriptor socket = connect_to(worker, patience);
  const UniqueTlsContext context = context_of(identity);
  if (!socket || !context) return {};
  const UniqueTls tls(SSL_new(context.get()));
  UniqueBio in(BIO_new(BIO_s_mem())), out(BIO_new(BIO_s_mem()));
  if (!tls || !in || !out) return {};
  UniqueCertificate rejected;
  SSL_set_app_data(tls.get(), &rejected);
  BIO_set_mem_eof_return(in.get(), -1);
  SSL_set_bio(tls.get(), in.release(), out.release());
  expect_host(tls.get(), worker.host);
  const bool is_connected = carry_out(tls.get(), socket.get(), [](SSL* one) { return SSL_connect(one); });
  const long verdict = SSL_get_verify_result(tls.get());
  if (verdict != X509_V_OK && rejected)
    return fmt::format("the worker's certificate {}", rejection(static_cast<int>(verdict), rejected.get()));
  if (!is_connected) return {};
  // With TLS 1.3 this side is done before the worker has looked at its certificate.
  char byte = 0;
  const bool is_served = carry_out(tls.get(), socket.get(), [&byte](SSL* one) { return SSL_read(one, &byte, 1); });
  const std::string reason = is_served ? std::string() : refusal_by_worker();
  ERR_clear_error();
  return reason;
}

}  // namespace tempo::wire
