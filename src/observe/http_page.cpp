#include "observe/http_page.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <system_error>

#include "wire/listen.h"

namespace tempo::observe {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using wire::UniqueDescriptor;

constexpr size_t kMaxRequestBytes = 4096;
constexpr milliseconds kRequestPatience{2'000};
constexpr timeval kReadPatience = {.tv_sec = 5, .tv_usec = 0};

void send_all(const UniqueDescriptor& peer, std::string_view text) {
  setsockopt(peer.get(), SOL_SOCKET, SO_SNDTIMEO, &kReadPatience, sizeof kReadPatience);
  while (!text.empty()) {
    const ssize_t sent = send(peer.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;  // gone, or reads nothing
    text.remove_prefix(static_cast<size_t>(sent));
  }
}

/// METHOD TARGET HTTP/VERSION. A query of the target is left out: the page takes no parameters.
struct RequestLine {
  std::string_view method, path;
  [[nodiscard]] bool is_head() const { return method == "HEAD"; }
};

std::optional<RequestLine> parse_request_line(std::string_view request) {
  const std::string_view line = request.substr(0, request.find("\r\n"));
  const size_t first = line.find(' '), second = line.find(' ', first + 1);
  if (first == 0 || first == line.npos || second == line.npos || !line.substr(second + 1).starts_with("HTTP/"))
    return std::nullopt;
  const std::string_view target = line.substr(first + 1, second - first - 1);
  return RequestLine{.method = line.substr(0, first), .path = target.substr(0, target.find('?'))};
}

/// @param is_head the peer wants the headers of the answer, and no body.
std::string response(std::string_view status, std::string_view body, bool is_head = false,
                     std::string_view more_headers = {}) {
  return fmt::format(
      "HTTP/1.1 {}\r\n{}Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n"
      "Connection: close\r\n\r\n{}",
      status, more_headers, body.size(), is_head ? std::string_view() : body);
}

}  // namespace

HttpPage::HttpPage(const wire::HostPort& at, std::string path, std::function<std::string()> body)
    : path_(std::move(path)),
      body_(std::move(body)),
      acceptor_(wire::listen_tcp("metrics", at)),
      thread_([this] { serve(); }) {}

HttpPage::~HttpPage() {
  acceptor_.stop();
  thread_.join();
}

uint16_t HttpPage::port() const { return wire::port_of(acceptor_.listening()); }

void HttpPage::serve() {
  while (const UniqueDescriptor peer = acceptor_.next()) answer(peer);
}

std::string HttpPage::receive_request(const UniqueDescriptor& peer) const {
  std::string request;
  const auto deadline = steady_clock::now() + kRequestPatience;
  while (request.size() < kMaxRequestBytes && request.find("\r\n\r\n") == std::string::npos) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
    pollfd events[] = {{.fd = peer.get(), .events = POLLIN, .revents = 0},
                       {.fd = acceptor_.stopping().get(), .events = POLLIN, .revents = 0}};
    if (left.count() <= 0 || poll(events, 2, static_cast<int>(left.count())) <= 0 || events[1].revents != 0) return {};
    char part[kMaxRequestBytes];
    const ssize_t got = recv(peer.get(), part, sizeof part, MSG_DONTWAIT);
    if (got <= 0) return {};
    request.append(part, static_cast<size_t>(got));
  }
  return request;
}

std::string HttpPage::response_to(std::string_view request) const {
  const std::optional<RequestLine> line = parse_request_line(request);
  if (!line) return response("400 Bad Request", "bad request\n");
  if (line->path != path_) return response("404 Not Found", "not found\n", line->is_head());
  if (line->method != "GET" && !line->is_head())
    return response("405 Method Not Allowed", "expected GET or HEAD\n", false, "Allow: GET, HEAD\r\n");
  return response("200 OK", body_(), line->is_head());
}

void HttpPage::answer(const UniqueDescriptor& peer) const try {
  const std::string request = receive_request(peer);
  if (!request.empty()) send_all(peer, response_to(request));
} catch (const std::exception&) {
  // No memory for an answer: the peer sees the connection close.
}

}  // namespace tempo::observe
