#include "wire/host_port.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "tempo/error.h"

namespace tempo::wire {
namespace {

constexpr size_t kMaxHostBytes = 253;  // of a name in DNS

/// What the resolver takes: underscores stand in names of containers and of services, though DNS has them in no host.
bool is_host_name(const std::string& host) {
  return !host.empty() && host.size() <= kMaxHostBytes && host.front() != '-' &&
         std::all_of(host.begin(), host.end(), [](unsigned char c) {
           return c < 128 && (std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_');
         });
}

bool is_ipv6(const std::string& host) {
  in6_addr address = {};
  return inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

}  // namespace

HostPort parse_host_port(const std::string& text) {
  HostPort parsed;
  const size_t colon = text.rfind(':');
  const char* const end = text.data() + text.size();
  bool is_good = colon != std::string::npos;
  if (is_good) {
    const auto [last, error] = std::from_chars(text.data() + colon + 1, end, parsed.port);
    is_good = error == std::errc() && last == end;
    const std::string host = text.substr(0, colon);
    const bool is_bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    parsed.host = is_bracketed ? host.substr(1, host.size() - 2) : host;
    is_good = is_good && (is_bracketed ? is_ipv6(parsed.host) : is_host_name(parsed.host));
  }
  if (!is_good)
    throw InputError(
        fmt::format("address: got \"{}\", expected HOST:PORT, e.g. worker.example:7000 or [::1]:7000", text));
  return parsed;
}

std::string to_string(const HostPort& address) {
  return address.host.find(':') == std::string::npos ? fmt::format("{}:{}", address.host, address.port)
                                                     : fmt::format("[{}]:{}", address.host, address.port);
}

bool is_loopback(const std::string& host) {
  in_addr v4 = {};
  in6_addr v6 = {};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

bool is_any_address(const std::string& host) {
  in_addr v4 = {};
  in6_addr v6 = {};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return v4.s_addr == INADDR_ANY;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

}  // namespace tempo::wire
