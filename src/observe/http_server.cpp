// Over cpp-httplib, which parses requests and writes answers; its types stay in this file. Connections are accepted and
// bounded here: its own loop ends for good at some errors of accept(2), and a peer that sends a byte now and then could
// hold one of its threads for ever.
#include "observe/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "tempo/error.h"
#include "wire/acceptor.h"
#include "wire/descriptor.h"
#include "wire/listen.h"

namespace tempo::observe {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using wire::UniqueDescriptor;

constexpr size_t kMaxRequestBytes = 16 << 10;
constexpr milliseconds kAskWithin{2'000}, kReadWithin{10'000};
constexpr size_t kThreads = 8;
constexpr size_t kMostWaiting = 64;

/// A socket whose request and answer have a size and a time to end in, all reads and all writes together.
class BoundedStream final : public httplib::Stream {
 public:
  BoundedStream(const UniqueDescriptor& peer, const UniqueDescriptor& stopping) : peer_(peer), stopping_(stopping) {}

  bool is_readable() const override { return begin_ != end_ || wait(POLLIN, ask_until_); }
  bool is_writable() const override { return wait(POLLOUT, steady_clock::now() + kReadWithin); }
  ssize_t read(char* out, size_t size) override {
    if (begin_ == end_ && !refill()) return -1;
    const size_t count = std::min(size, end_ - begin_);
    std::memcpy(out, buffer_.data() + begin_, count);
    begin_ += count;
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char* bytes, size_t size) override {
    if (read_until_ == steady_clock::time_point()) read_until_ = steady_clock::now() + kReadWithin;
    for (size_t done = 0; done < size;) {
      if (!wait(POLLOUT, read_until_)) return -1;
      const ssize_t sent = send(peer_.get(), bytes + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EINTR && errno != EAGAIN) return -1;
      if (sent > 0) done += static_cast<size_t>(sent);
    }
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return peer_.get(); }

 private:
  bool refill() {
    if (received_ >= kMaxRequestBytes || !wait(POLLIN, ask_until_)) return false;
    const ssize_t got = recv(peer_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got <= 0) return false;
    begin_ = 0;
    end_ = static_cast<size_t>(got);
    received_ += end_;
    return true;
  }
  /// @returns false once the time is over, or the server stops.
  bool wait(short what, steady_clock::time_point until) const {
    for (;;) {
      const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
      pollfd events[] = {{.fd = peer_.get(), .events = what, .revents = 0},
                         {.fd = stopping_.get(), .events = POLLIN, .revents = 0}};
      const int ready = left.count() <= 0 ? 0 : poll(events, 2, static_cast<int>(left.count()));
      if (ready < 0 && errno == EINTR) continue;
      return ready > 0 && events[1].revents == 0;
    }
  }

  const UniqueDescriptor &peer_, &stopping_;
  const steady_clock::time_point ask_until_ = steady_clock::now() + kAskWithin;
  steady_clock::time_point read_until_;
  std::array<char, 4096> buffer_;
  size_t begin_ = 0, end_ = 0, received_ = 0;
};

/// Only the part of the library's server that turns a request into an answer.
class Answerer final : public httplib::Server {
 public:
  void answer(BoundedStream& stream) {
    bool is_closed = false;
    // A request can name thousands of ranges that overlap, each the whole page.
    process_request(stream, true, is_closed, [](httplib::Request& request) { request.ranges.clear(); });
  }
};

bool is_ip_address(const std::string& host) {
  in6_addr address = {};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 || inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

/// @param header "worker.example:9464" or "[::1]:9464"; the port is not looked at, since a name alone decides.
bool is_own_name(const std::string& header, const std::string& own) {
  const bool is_bracketed = !header.empty() && header.front() == '[';
  if (is_bracketed && header.find(']') == header.npos) return false;
  std::string host = is_bracketed ? header.substr(1, header.find(']') - 1) : header.substr(0, header.find(':'));
  const auto lower = [](std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
  };
  host = lower(host);
  return host == "localhost" || host == lower(own) || is_ip_address(host);
}

void say(httplib::Response& response, int status, const std::string& text) {
  response.status = status;
  response.set_content(text + "\n", "text/plain; charset=utf-8");
}

}  // namespace

struct HttpServer::State {
  State(std::string_view purpose, const wire::HostPort& at, HostCheck host_check, HttpPages all)
      : own_name(at.host), check(host_check), pages(std::move(all)), acceptor(wire::listen_tcp(purpose, at)) {
    answerer.set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      route(request, response);
      return httplib::Server::HandlerResponse::Handled;
    });
    answerer.set_default_headers({{"X-Content-Type-Options", "nosniff"},
                                  {"Cache-Control", "no-store"},
                                  {"Accept-Ranges", "none"},
                                  {"Referrer-Policy", "no-referrer"},
                                  {"Cross-Origin-Resource-Policy", "same-origin"}});
    threads.emplace_back([this] { accept(); });
    for (size_t i = 0; i < kThreads; ++i) threads.emplace_back([this] { serve(); });
  }
  ~State() {
    acceptor.stop();
    {
      const std::lock_guard lock(mutex);
      is_stopping = true;
    }
    changed.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void route(const httplib::Request& request, httplib::Response& response) const;
  void accept();
  void serve();
  void answer(const UniqueDescriptor& peer);

  const std::string own_name;
  const HostCheck check;
  const HttpPages pages;
  Answerer answerer;
  wire::Acceptor acceptor;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<UniqueDescriptor> waiting;
  bool is_stopping = false;
  std::vector<std::thread> threads;  // last: they use everything above
};

void HttpServer::State::route(const httplib::Request& request, httplib::Response& response) const {
  const bool is_of_browser = request.has_header("Host");  // they always send it
  if (check == HostCheck::kOwnName && is_of_browser && !is_own_name(request.get_header_value("Host"), own_name))
    return say(response, 421, "this server has another name, expected " + own_name + " or an IP address");
  const auto page = pages.find(request.path);
  if (page == pages.end()) return say(response, 404, "not found");
  if (request.method != "GET" && request.method != "HEAD") {
    response.set_header("Allow", "GET, HEAD");
    return say(response, 405, "expected GET or HEAD");
  }
  HttpQuery query;
  for (const auto& [name, value] : request.params) query.try_emplace(name, value);
  try {
    response.set_content(page->second.body(query), page->second.content_type);
    response.set_header("Content-Security-Policy", page->second.security_policy);
    response.status = 200;
  } catch (const InputError& error) {
    say(response, 400, error.what());
  } catch (const std::exception&) {
    say(response, 500, "the page could not be made");
  }
}

void HttpServer::State::accept() {
  while (UniqueDescriptor peer = acceptor.next()) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return is_stopping || waiting.size() < kMostWaiting; });
    if (is_stopping) return;
    waiting.push_back(std::move(peer));
    changed.notify_all();
  }
}

void HttpServer::State::serve() {
  for (;;) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return is_stopping || !waiting.empty(); });
    if (is_stopping) return;
    const UniqueDescriptor peer = std::move(waiting.front());
    waiting.pop_front();
    changed.notify_all();
    lock.unlock();
    answer(peer);
  }
}

void HttpServer::State::answer(const UniqueDescriptor& peer) try {
  BoundedStream stream(peer, acceptor.stopping());
  answerer.answer(stream);
  shutdown(peer.get(), SHUT_WR);
  // What was sent and not read would have the kernel reset the connection, and the answer with it.
  char rest[4096];
  for (int i = 0; i < 16 && recv(peer.get(), rest, sizeof rest, MSG_DONTWAIT) > 0; ++i) {
  }
} catch (const std::exception&) {
  // No memory for an answer: the peer sees the connection close.
}

HttpServer::HttpServer(std::string_view purpose, const wire::HostPort& at, HostCheck check, HttpPages pages)
    : state_(std::make_unique<State>(purpose, at, check, std::move(pages))) {}

HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const { return wire::port_of(state_->acceptor.listening()); }

wire::HostPort parse_page_address(std::string_view purpose, const std::string& text) {
  const bool is_port = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  try {
    return wire::parse_host_port(is_port ? "localhost:" + text : text);
  } catch (const InputError&) {
    throw InputError(fmt::format(
        "{}: got \"{}\", expected PORT of localhost, or HOST:PORT, e.g. 8080 or 192.0.2.1:8080", purpose, text));
  }
}

}  // namespace tempo::observe
