#include "service/listener.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "tempo/error.h"
#include "wire/listen.h"

namespace tempo::service {
namespace {

// What anybody can make happen is logged so often a run, and counted no further.
constexpr uint64_t kMaxLoggedRefusals = 1000;

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Addresses resolve(const wire::HostPort& address) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  if (const int error = ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
      error != 0)
    throw InputError(fmt::format("{}: no such address: {}", wire::to_string(address), ::gai_strerror(error)));
  return Addresses(found);
}

void send_at_once(int socket) {
  const int yes = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

}  // namespace

Listener::Listener(const wire::HostPort& address, const TlsIdentity& identity, const ListenerLimits& limits,
                   observe::Log& log, Serve serve)
    : identity_(identity),
      limits_(limits),
      log_(log),
      serve_(std::move(serve)),
      acceptor_(wire::listen_tcp("serve", address), SOCK_NONBLOCK),
      port_(wire::port_of(acceptor_.listening())) {
  thread_ = std::thread([this] { accept_all(); });
}

Listener::~Listener() {
  stop_ = true;
  acceptor_.stop();
  thread_.join();
  for (Connection& connection : connections_) connection.thread.join();
}

void Listener::accept_all() {
  uint64_t refusals = 0;
  while (wire::UniqueDescriptor socket = acceptor_.next()) {
    forget_finished();
    if (connections_.size() < limits_.connections)
      take(std::move(socket));
    else if (++refusals <= kMaxLoggedRefusals)
      log_.warning("connection_refused", {{"reason", "too many"}, {"limit", limits_.connections}});
  }
}

void Listener::take(wire::UniqueDescriptor socket) try {
  send_at_once(socket.get());
  Connection& connection = connections_.emplace_back();
  const auto shared = std::make_shared<wire::UniqueDescriptor>(std::move(socket));
  try {
    connection.thread = std::thread([this, shared, &connection] {
      serve(std::move(*shared));
      connection.is_over = true;
    });
  } catch (const std::system_error&) {
    connections_.pop_back();
    throw;
  }
} catch (const std::exception&) {
  log_.warning("connection_refused", {{"reason", "no thread"}});
}

void Listener::serve(wire::UniqueDescriptor socket) noexcept try {
  TlsChannel channel(std::move(socket), identity_, TlsChannel::Role::kService, limits_.handshake);
  SocketPair pair;
  const std::unique_ptr<Served> served = serve_(channel.binding(), std::move(pair.grpcs));
  channel.pump(pair.ours.get(), limits_.idle, stop_);
} catch (const std::exception& error) {
  log_.warning("connection_refused", {{"reason", error.what()}});
}

void Listener::forget_finished() {
  connections_.remove_if([](Connection& connection) {
    if (!connection.is_over) return false;
    connection.thread.join();
    return true;
  });
}

wire::UniqueDescriptor connect_to(const wire::HostPort& address, std::chrono::milliseconds patience) {
  const Addresses addresses = resolve(address);
  for (const addrinfo* entry = addresses.get(); entry != nullptr; entry = entry->ai_next) {
    wire::UniqueDescriptor socket(::socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) continue;
    if (::connect(socket.get(), entry->ai_addr, entry->ai_addrlen) != 0 && errno != EINPROGRESS) continue;
    pollfd waiting{socket.get(), POLLOUT, 0};
    int error = 0;
    socklen_t length = sizeof error;
    if (::poll(&waiting, 1, static_cast<int>(patience.count())) != 1 ||
        ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0)
      continue;
    send_at_once(socket.get());
    return socket;
  }
  throw RunError(fmt::format("{}: nobody listens there", wire::to_string(address)));
}

}  // namespace tempo::service
