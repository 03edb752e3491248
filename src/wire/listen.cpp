#include "wire/listen.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <system_error>

#include "tempo/error.h"

namespace tempo::wire {
namespace {

constexpr int kBacklog = 64;

[[noreturn]] void refuse(std::string_view purpose, const HostPort& address, const std::string& reason) {
  throw InputError(fmt::format("{}: cannot listen at {}: {}", purpose, to_string(address), reason));
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(std::string_view purpose, const HostPort& address) {
  int error = 0;
  for (const int family : {AF_INET, AF_INET6}) {
    addrinfo hints = {};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    error = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
    if (error == 0) return {found, &freeaddrinfo};
  }
  refuse(purpose, address, gai_strerror(error));
}

}  // namespace

UniqueDescriptor listen_tcp(std::string_view purpose, const HostPort& address) {
  const Addresses addresses = resolve(purpose, address);
  int error = 0;
  for (const addrinfo* entry = addresses.get(); entry != nullptr; entry = entry->ai_next) {
    UniqueDescriptor listening(socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    if (listening && setsockopt(listening.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(listening.get(), entry->ai_addr, entry->ai_addrlen) == 0 && listen(listening.get(), kBacklog) == 0)
      return listening;
    error = errno;
  }
  refuse(purpose, address, std::generic_category().message(error));
}

uint16_t port_of(const UniqueDescriptor& listening) {
  sockaddr_storage bound = {};
  socklen_t length = sizeof bound;
  if (getsockname(listening.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(bound).sin_port);
}

}  // namespace tempo::wire
