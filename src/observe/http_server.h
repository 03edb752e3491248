/// A small HTTP server for people and scrapers who watch a process: a few fixed pages, read only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "wire/host_port.h"

namespace tempo::observe {

/// Parameters of a request, by name; of a name given twice, the first.
using HttpQuery = std::map<std::string, std::string, std::less<>>;

/// What is served at one path.
struct HttpPage {
  std::string content_type;
  /// Called for every request, by several threads at once. What it throws is answered with 500.
  std::function<std::string(const HttpQuery&)> body;
  /// Value of the header Content-Security-Policy.
  std::string security_policy = "default-src 'none'; frame-ancestors 'none'";
};
using HttpPages = std::map<std::string, HttpPage, std::less<>>;

/// Which names a request's header Host may have. A web page of another site can have its own name lead to this address
/// (DNS rebinding) and then read what is served here: its requests carry that name.
enum class HostCheck : uint8_t {
  /// The name that it listens at, "localhost", any IP address, or no header at all, as of HTTP/1.0: others get 421.
  kOwnName,
  kAnyName
};

/// Answers GET and HEAD of its pages until destroyed; other methods get 405, other paths 404. It is plain HTTP and asks
/// nobody who they are. A request has 16 KiB and 2 seconds to come, its answer 10 seconds to be read; eight are
/// answered at once, and each connection brings one. Stopping waits for no peer. Thread-safe.
class HttpServer {
 public:
  /// @param purpose begins messages: "metrics". @param at port 0 takes a free one.
  /// @throws InputError if it cannot listen there.
  HttpServer(std::string_view purpose, const wire::HostPort& at, HostCheck check, HttpPages pages);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// The port that was taken.
  [[nodiscard]] uint16_t port() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

/// HOST:PORT, or PORT alone, which is of localhost. @param purpose begins the message. @throws InputError
wire::HostPort parse_page_address(std::string_view purpose, const std::string& text);

}  // namespace tempo::observe
