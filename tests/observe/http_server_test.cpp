#include "observe/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "observe/http_get.h"
#include "tempo/error.h"

namespace tempo::observe {
namespace http_server_test {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::http_get;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

HttpPages one_page(std::function<std::string(const HttpQuery&)> body) {
  HttpPages pages;
  pages["/"] = {.content_type = "text/plain", .body = std::move(body)};
  return pages;
}

/// Sends `request` as it stands, and reads until the server closes.
std::string raw(uint16_t port, const std::string& request) {
  const int peer = testing::connect_to(port);
  send(peer, request.data(), request.size(), MSG_NOSIGNAL);
  std::string all;
  char part[4096];
  for (ssize_t got = 0; (got = recv(peer, part, sizeof part, 0)) > 0;) all.append(part, static_cast<size_t>(got));
  close(peer);
  return all;
}

class Server : public ::testing::Test {
 protected:
  HttpServer server_{"test", {"localhost", 0}, HostCheck::kOwnName, one_page([](const HttpQuery& query) {
                       return query.empty() ? "hello" : query.begin()->second;
                     })};
};

TEST_F(Server, AnswersItsPagesWithHeadersThatKeepBrowsersStrict) {
  const std::string answer = http_get(server_.port(), "/");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  for (const char* header : {"X-Content-Type-Options: nosniff", "Cache-Control: no-store", "Connection: close",
                             "Content-Security-Policy: default-src 'none'", "Referrer-Policy: no-referrer"})
    EXPECT_THAT(answer, HasSubstr(header));
  EXPECT_THAT(answer, ::testing::EndsWith("\r\n\r\nhello"));
  EXPECT_THAT(http_get(server_.port(), "/?name=a%20b&name=c"), ::testing::EndsWith("a b"));
}

TEST_F(Server, OtherMethodsAndPathsAreRefused) {
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
    const std::string answer = testing::http_request(server_.port(), method, "/");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 405")) << method;
    EXPECT_THAT(answer, HasSubstr("Allow: GET, HEAD")) << method;
  }
  EXPECT_THAT(raw(server_.port(), "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"),
              StartsWith("HTTP/1.1 405"));
  for (const char* path : {"/other", "/../etc/passwd", "//", "/%2e%2e/", "/index.html"})
    EXPECT_THAT(http_get(server_.port(), path), StartsWith("HTTP/1.1 404")) << path;
}

TEST_F(Server, ARequestForAnotherNameIsRefused) {
  const auto ask = [&](const std::string& host) {
    return raw(server_.port(), "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
  };
  for (const char* own : {"localhost", "LOCALHOST:8080", "127.0.0.1:80", "[::1]:80", "192.0.2.7"})
    EXPECT_THAT(ask(own), StartsWith("HTTP/1.1 200")) << own;
  for (const char* other :
       {"attacker.example", "localhost.attacker.example:80", "127.0.0.1.attacker.example", "[localhost", "[]"})
    EXPECT_THAT(ask(other), StartsWith("HTTP/1.1 421")) << other;
  EXPECT_THAT(raw(server_.port(), "GET / HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.1 200")) << "no browser's";
  const HttpServer any("test", {"localhost", 0}, HostCheck::kAnyName, one_page([](const HttpQuery&) { return "x"; }));
  EXPECT_THAT(raw(any.port(), "GET / HTTP/1.1\r\nHost: worker.cluster.local\r\n\r\n"), StartsWith("HTTP/1.1 200"));
}

TEST_F(Server, TooLargeOrBrokenRequestsEndWithoutHarm) {
  const std::string large(1 << 20, 'a');
  for (const std::string& request :
       {"GET /" + large + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.1\r\nX: " + large + "\r\n\r\n",
        std::string("nonsense\r\n\r\n"), std::string("\0\xff\r\n\r\n", 6), std::string("GET / HTTP/9\r\n\r\n")}) {
    const std::string answer = raw(server_.port(), request);
    EXPECT_THAT(answer, AnyOf(IsEmpty(), StartsWith("HTTP/1.1 4"))) << request.substr(0, 20);
  }
  std::string many = "GET / HTTP/1.1\r\nHost: localhost\r\n";
  for (int i = 0; i < 100'000; ++i) many += "A: b\r\n";
  EXPECT_THAT(raw(server_.port(), many + "\r\n"), Not(StartsWith("HTTP/1.1 200")));
  EXPECT_THAT(http_get(server_.port(), "/"), StartsWith("HTTP/1.1 200"));
}

TEST_F(Server, RangesAreNotServed) {
  const HttpServer large("test", {"localhost", 0}, HostCheck::kOwnName,
                         one_page([](const HttpQuery&) { return std::string(1 << 20, 'x'); }));
  std::string ranges = "bytes=0-";
  for (int i = 0; i < 1000; ++i) ranges += ",0-";
  const std::string answer = raw(large.port(), "GET / HTTP/1.1\r\nHost: localhost\r\nRange: " + ranges + "\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_LT(answer.size(), (1U << 20) + 1000);
}

TEST_F(Server, ClientsThatSayNothingOrDribbleDoNotKeepOthersOut) {
  std::atomic<bool> is_over = false;
  std::vector<std::thread> slow;
  for (int i = 0; i < 12; ++i)  // more than are answered at once
    slow.emplace_back([&, i] {
      const int peer = testing::connect_to(server_.port());
      while (!is_over) {
        if (i % 2 == 0 && send(peer, "G", 1, MSG_NOSIGNAL) < 0) break;
        pollfd closed = {.fd = peer, .events = POLLIN, .revents = 0};
        if (poll(&closed, 1, 100) > 0) break;
      }
      close(peer);
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(http_get(server_.port(), "/"), StartsWith("HTTP/1.1 200"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
  is_over = true;
  for (std::thread& thread : slow) thread.join();
}

TEST_F(Server, ManyAtOnceAreAllAnswered) {
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0;
  for (int i = 0; i < 32; ++i)
    clients.emplace_back([&] {
      for (int k = 0; k < 20; ++k) answered += http_get(server_.port(), "/").starts_with("HTTP/1.1 200") ? 1 : 0;
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answered, 32 * 20);
}

TEST(HttpServer, StopsWhileClientsAreSilentOrDoNotRead) {
  auto server = std::make_unique<HttpServer>("test", wire::HostPort{"localhost", 0}, HostCheck::kOwnName,
                                             one_page([](const HttpQuery&) { return std::string(16 << 20, 'x'); }));
  const uint16_t port = server->port();
  const int silent = testing::connect_to(port), deaf = testing::connect_to(port);
  const std::string request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  ASSERT_GT(send(deaf, request.data(), request.size(), MSG_NOSIGNAL), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto start = std::chrono::steady_clock::now();
  server.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4)) << "it waited for a peer";
  close(silent);
  close(deaf);
  EXPECT_THROW(http_get(port, "/"), std::runtime_error);
}

TEST(HttpServer, WhatAPageThrowsIsAnError) {
  const HttpServer server("test", {"localhost", 0}, HostCheck::kOwnName, one_page([](const HttpQuery& query) {
                            if (query.empty()) throw std::runtime_error("secret of the program");
                            throw InputError("n: expected a number");
                            return std::string();
                          }));
  const std::string failed = http_get(server.port(), "/");
  EXPECT_THAT(failed, StartsWith("HTTP/1.1 500"));
  EXPECT_THAT(failed, Not(HasSubstr("secret")));
  EXPECT_THAT(http_get(server.port(), "/?n=x"), StartsWith("HTTP/1.1 400"));
}

}  // namespace http_server_test
}  // namespace tempo::observe
