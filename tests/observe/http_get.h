/// An HTTP request over a plain socket, so that no client library hides what is served.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace tempo::testing {

inline int connect_to(uint16_t port) {
  const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(socket_fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    close(socket_fd);
    throw std::runtime_error("cannot connect");
  }
  return socket_fd;
}

/// All that comes back: status line, headers and body. @throws std::runtime_error if nobody listens.
inline std::string http_request(uint16_t port, const std::string& method, const std::string& target) {
  const int socket_fd = connect_to(port);
  const std::string request = method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  if (send(socket_fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) throw std::runtime_error("cannot send");
  std::string all;
  char part[4096];
  for (ssize_t got = 0; (got = recv(socket_fd, part, sizeof part, 0)) > 0;) all.append(part, static_cast<size_t>(got));
  close(socket_fd);
  return all;
}

inline std::string http_get(uint16_t port, const std::string& path) { return http_request(port, "GET", path); }

}  // namespace tempo::testing
