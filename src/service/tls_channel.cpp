#include "service/tls_channel.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tempo/error.h"

namespace tempo::service {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kBufferBytes = 32768;       // each way
constexpr milliseconds kTick{200};           // how soon `stop` is noticed
constexpr long kMaxCertificateBytes = 8192;  // of what the peer shows
constexpr unsigned char kAlpn[] = {7, 't', 'e', 'm', 'p', 'o', '/', '1'};

void check(bool is_done, const char* what) {
  if (!is_done) throw RunError(std::string("tls: OpenSSL cannot ") + what);
}

/// Takes whoever holds the key it shows; evidence, or an earlier meeting, says whose it is. TLS itself proves
/// possession.
int accept_any_certificate(X509_STORE_CTX* store, void*) {
  X509_STORE_CTX_set_error(store, X509_V_OK);
  return 1;
}

int choose_alpn(SSL*, const unsigned char** out, unsigned char* length, const unsigned char* offered, unsigned count,
                void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, length, kAlpn, sizeof kAlpn, offered, count) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

SSL_CTX* new_context(const TlsIdentity& identity, bool is_service) {
  SSL_CTX* context = SSL_CTX_new(is_service ? TLS_server_method() : TLS_client_method());
  check(context != nullptr, "make a context");
  const bool is_set = SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
                      SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
                      SSL_CTX_use_certificate(context, identity.certificate()) == 1 &&
                      SSL_CTX_use_PrivateKey(context, identity.key()) == 1 && SSL_CTX_set_num_tickets(context, 0) == 1;
  if (!is_set) SSL_CTX_free(context);
  check(is_set, "set TLS 1.3 up");
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_cert_list(context, kMaxCertificateBytes);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(context, accept_any_certificate, nullptr);
  if (is_service)
    SSL_CTX_set_alpn_select_cb(context, choose_alpn, nullptr);
  else
    SSL_CTX_set_alpn_protos(context, kAlpn, sizeof kAlpn);
  return context;
}

bool wait_for(int descriptor, short events, Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count();
  pollfd entry{descriptor, events, 0};
  return left > 0 && ::poll(&entry, 1, static_cast<int>(left)) != 0;
}

/// OpenSSL writes to sockets in a way that kills a process whose peer is gone, unless this thread is deaf to it.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &set_, &old_);
  }
  ~NoSigpipe() {
    const timespec now = {};
    if (sigismember(&old_, SIGPIPE) == 0) ::sigtimedwait(&set_, nullptr, &now);  // what came meanwhile
    ::pthread_sigmask(SIG_SETMASK, &old_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

 private:
  sigset_t set_{}, old_{};
};

/// Bytes on their way in one direction. They are what goes through TLS: wiped at the end.
struct Lane {
  std::vector<unsigned char> bytes = std::vector<unsigned char>(kBufferBytes);
  size_t begin = 0, end = 0;
  bool is_over = false;  // nothing comes after what is here
  ~Lane() { sodium_memzero(bytes.data(), bytes.size()); }

  [[nodiscard]] bool has_bytes() const { return begin < end; }
  [[nodiscard]] bool wants_bytes() const { return !has_bytes() && !is_over; }
  void filled(size_t count) {
    begin = 0;
    end = count;
  }
};

/// What a try to move bytes came to.
enum class Moved { kSome, kNothing, kClosed };

/// The two lanes of one connection, and what OpenSSL waits for.
class Pump {
 public:
  Pump(SSL* ssl, int socket, int local) : ssl_(ssl), socket_(socket), local_(local) {}

  /// @returns whether anything moved.
  bool move() {
    bool is_moved = false;
    tls_events_ = 0;
    is_moved = step(
                   inbound_.wants_bytes(), [this] { return read_tls(); }, inbound_) ||
               is_moved;
    is_moved = step(
                   inbound_.has_bytes(), [this] { return write_local(); }, inbound_) ||
               is_moved;
    is_moved = step(
                   outbound_.wants_bytes(), [this] { return read_local(); }, outbound_) ||
               is_moved;
    is_moved = step(
                   outbound_.has_bytes(), [this] { return write_tls(); }, outbound_) ||
               is_moved;
    return is_moved;
  }
  /// Either end is through: what the other still says has nobody to hear it.
  [[nodiscard]] bool is_over() const {
    return is_broken_ || (inbound_.is_over && !inbound_.has_bytes()) || (outbound_.is_over && !outbound_.has_bytes());
  }
  void wait() const {
    pollfd entries[] = {{socket_, tls_events_, 0}, {local_, 0, 0}};
    if (outbound_.wants_bytes()) entries[1].events |= POLLIN;
    if (inbound_.has_bytes()) entries[1].events |= POLLOUT;
    for (pollfd& entry : entries)
      if (entry.events == 0) entry.fd = -1;  // or an end that hung up would wake us for nothing
    ::poll(entries, 2, static_cast<int>(kTick.count()));
  }

 private:
  template <typename Move>
  bool step(bool is_due, const Move& move, Lane& lane) {
    if (!is_due || is_broken_) return false;
    const Moved moved = move();
    if (moved == Moved::kClosed) lane.is_over = true;
    return moved == Moved::kSome;
  }

  /// @returns kNothing with the event to wait for, or kClosed.
  Moved failed(int result) {
    switch (SSL_get_error(ssl_, result)) {
      case SSL_ERROR_WANT_READ:
        tls_events_ |= POLLIN;
        return Moved::kNothing;
      case SSL_ERROR_WANT_WRITE:
        tls_events_ |= POLLOUT;
        return Moved::kNothing;
      default:
        ERR_clear_error();
        return Moved::kClosed;
    }
  }
  Moved read_tls() {
    size_t count = 0;
    ERR_clear_error();
    const int result = SSL_read_ex(ssl_, inbound_.bytes.data(), inbound_.bytes.size(), &count);
    if (result != 1) return failed(result);
    inbound_.filled(count);
    return Moved::kSome;
  }
  Moved write_tls() {
    size_t count = 0;
    ERR_clear_error();
    const int result =
        SSL_write_ex(ssl_, outbound_.bytes.data() + outbound_.begin, outbound_.end - outbound_.begin, &count);
    if (result != 1) return broken_if_closed(failed(result));
    outbound_.begin += count;
    return Moved::kSome;
  }
  Moved read_local() {
    const ssize_t count = ::recv(local_, outbound_.bytes.data(), outbound_.bytes.size(), 0);
    if (count < 0) return errno == EAGAIN || errno == EINTR ? Moved::kNothing : Moved::kClosed;
    if (count == 0) return Moved::kClosed;
    outbound_.filled(static_cast<size_t>(count));
    return Moved::kSome;
  }
  Moved write_local() {
    const ssize_t count =
        ::send(local_, inbound_.bytes.data() + inbound_.begin, inbound_.end - inbound_.begin, MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN || errno == EINTR ? Moved::kNothing : broken_if_closed(Moved::kClosed);
    inbound_.begin += static_cast<size_t>(count);
    return Moved::kSome;
  }
  Moved broken_if_closed(Moved moved) {
    is_broken_ = is_broken_ || moved == Moved::kClosed;
    return moved;
  }

  SSL* ssl_;
  int socket_, local_;
  Lane inbound_, outbound_;
  short tls_events_ = 0;
  bool is_broken_ = false;
};

}  // namespace

void set_not_blocking(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  check(flags >= 0 && ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0, "use this socket");
}

SocketPair::SocketPair() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    throw RunError(std::string("service: no socket pair: ") + std::strerror(errno));
  ours = wire::UniqueDescriptor(pair[0]);
  grpcs = wire::UniqueDescriptor(pair[1]);
}

TlsChannel::TlsChannel(wire::UniqueDescriptor socket, const TlsIdentity& identity, Role role, milliseconds patience)
    : socket_(std::move(socket)),
      context_(new_context(identity, role == Role::kService)),
      ssl_(SSL_new(context_.get())) {
  set_not_blocking(socket_.get());
  check(ssl_ != nullptr && SSL_set_fd(ssl_.get(), socket_.get()) == 1, "make a connection");
  if (role == Role::kService)
    SSL_set_accept_state(ssl_.get());
  else
    SSL_set_connect_state(ssl_.get());
  handshake(patience);
  bind(identity, role);
}

TlsChannel::~TlsChannel() = default;

void TlsChannel::handshake(milliseconds patience) {
  const NoSigpipe deaf;
  const auto deadline = Clock::now() + patience;
  for (;;) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) break;
    const int error = SSL_get_error(ssl_.get(), result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
      ERR_clear_error();
      throw ProtocolError("tls: the other end does not complete a TLS 1.3 handshake with a certificate of its own");
    }
    if (!wait_for(socket_.get(), error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline))
      throw ProtocolError("tls: the other end was too slow in the handshake");
  }
  const unsigned char* protocol = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl_.get(), &protocol, &length);
  if (length != sizeof kAlpn - 1 || std::memcmp(protocol, kAlpn + 1, length) != 0)
    throw ProtocolError("tls: the other end does not speak tempo/1");
}

void TlsChannel::bind(const TlsIdentity& identity, Role role) {
  const auto theirs = spki_of(SSL_get0_peer_certificate(ssl_.get()));
  const auto ours = identity.spki();
  binding_.service_spki = role == Role::kService ? ours : theirs;
  binding_.client = sha256(role == Role::kService ? theirs : ours);
  check(SSL_export_keying_material(ssl_.get(), reinterpret_cast<unsigned char*>(binding_.exporter.data()),
                                   binding_.exporter.size(), kExporterLabel, std::strlen(kExporterLabel), nullptr, 0,
                                   0) == 1,
        "export keying material");
}

void TlsChannel::pump(int local, milliseconds idle, const std::atomic<bool>& stop) {
  const NoSigpipe deaf;
  Pump pump(ssl_.get(), socket_.get(), local);
  auto last = Clock::now();
  while (!stop && !pump.is_over() && Clock::now() - last < idle) {
    if (pump.move())
      last = Clock::now();
    else
      pump.wait();
  }
  SSL_shutdown(ssl_.get());  // tells the other end if it can be told at once
  ERR_clear_error();
  ::shutdown(local, SHUT_RDWR);
  ::shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace tempo::service
