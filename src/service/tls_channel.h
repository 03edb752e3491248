/// TLS 1.3 with its exporter, which gRPC does not give out: the connection is ours, and gRPC speaks through it over a
/// socket pair inside the process.
#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <chrono>
#include <memory>

#include "service/tls_identity.h"
#include "wire/descriptor.h"

namespace tempo::service {

/// RFC 5705 label of the exporter that evidence is bound to.
inline constexpr const char* kExporterLabel = "EXPORTER-tempo-attestation";
/// What the evidence and the transcript bind: both ends of one TLS connection see the same, and nobody between two
/// connections does.
struct ChannelBinding {
  attest::Digest32 exporter{};
  attest::Bytes service_spki;  ///< SubjectPublicKeyInfo of the service's certificate, DER
  attest::Digest32 client{};   ///< SHA-256 of the client's: who owns its jobs
};

/// One TLS connection. Both ends show a certificate and prove that they hold its key; nobody signs certificates, so a
/// handshake alone says nothing about who the other end is. That is for the evidence.
class TlsChannel {
 public:
  enum class Role { kService, kClient };

  /// Completes the handshake. @param socket a connected TCP socket. @param patience for the whole handshake.
  /// @throws ProtocolError if the other end does not speak TLS 1.3, shows no certificate on P-256, or is too slow.
  TlsChannel(wire::UniqueDescriptor socket, const TlsIdentity& identity, Role role, std::chrono::milliseconds patience);
  ~TlsChannel();
  TlsChannel(const TlsChannel&) = delete;
  TlsChannel& operator=(const TlsChannel&) = delete;

  [[nodiscard]] const ChannelBinding& binding() const { return binding_; }

  /// Carries bytes between TLS and `local` until either end closes, nothing moves for `idle`, or `stop` is set.
  /// Borrows `local`, one end of a socket pair. Call once.
  void pump(int local, std::chrono::milliseconds idle, const std::atomic<bool>& stop);

 private:
  struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  void handshake(std::chrono::milliseconds patience);
  void bind(const TlsIdentity& identity, Role role);

  wire::UniqueDescriptor socket_;
  std::unique_ptr<SSL_CTX, FreeSsl> context_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  ChannelBinding binding_;
};

/// Two connected sockets, not blocking.
struct SocketPair {
  SocketPair();
  wire::UniqueDescriptor ours, grpcs;
};

void set_not_blocking(int descriptor);

}  // namespace tempo::service
