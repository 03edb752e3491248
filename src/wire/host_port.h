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
/// 127.0.0.0/8, ::1 or "localhost", as written: what another name stands for is for others to say.
bool is_loopback(const std::string& host);
/// 0.0.0.0 or ::, where one can listen and nobody can connect.
bool is_any_address(const std::string& host);

}  // namespace tempo::wire
