/// Accepts TLS connections and has each served.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "observe/log.h"
#include "service/tls_channel.h"
#include "wire/acceptor.h"
#include "wire/host_port.h"

namespace tempo::service {

struct ListenerLimits {
  size_t connections = 64;  ///< at once, those in a handshake included
  std::chrono::milliseconds handshake{10'000};
  std::chrono::milliseconds idle{120'000};  ///< without a byte either way
};

/// What serves one connection; destroyed when it is over.
class Served {
 public:
  virtual ~Served() = default;
};

/// One thread that accepts, and one for each connection. Connections beyond the limit are closed at once.
class Listener {
 public:
  /// Called on the connection's thread, which carries bytes afterwards. @param socket the end of a socket pair
  using Serve = std::function<std::unique_ptr<Served>(const ChannelBinding& binding, wire::UniqueDescriptor socket)>;

  /// @param identity, log outlive it. Port 0 takes a free one. @throws InputError if it cannot listen there.
  Listener(const wire::HostPort& address, const TlsIdentity& identity, const ListenerLimits& limits, observe::Log& log,
           Serve serve);
  /// Ends all connections.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  struct Connection {
    std::atomic<bool> is_over = false;
    std::thread thread;
  };
  void accept_all();
  void take(wire::UniqueDescriptor socket);
  void serve(wire::UniqueDescriptor socket) noexcept;
  void forget_finished();

  const TlsIdentity& identity_;
  const ListenerLimits limits_;
  observe::Log& log_;
  const Serve serve_;
  wire::Acceptor acceptor_;
  const uint16_t port_;
  std::atomic<bool> stop_ = false;
  std::list<Connection> connections_;  // of the accepting thread alone
  std::thread thread_;
};

/// A connected socket. @throws RunError if nobody listens there.
wire::UniqueDescriptor connect_to(const wire::HostPort& address, std::chrono::milliseconds patience);

}  // namespace tempo::service
