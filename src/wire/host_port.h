/// HOST:PORT as in `grpc://HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets.
#pragma once

#include <cstdint>
#include <string>

namespace tempo::wire {

struct HostPort {
  std::string host;  ///< without brackets
  uint16_t port = 0;
};

/// @throws InputError for anything else, e.g. "worker", "::1:5000", "a/b:1", "host:99999".
HostPort parse_host_port(const std::string& text);
/// With brackets around what has colons.
std::string to_string(const HostPort& address);

}  // namespace tempo::wire
