/// One page over HTTP, as scrapers fetch it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "wire/acceptor.h"
#include "wire/descriptor.h"
#include "wire/host_port.h"

namespace tempo::observe {

/// Answers `GET path` with what `body` gives and `HEAD path` with its headers, whatever query follows the path. Other
/// methods get 405, other paths 404. One request at a time, until destroyed, on a thread of its own; a peer has 4 KiB
/// and 2 seconds to ask, and 5 to read. (Not civetweb, which prometheus-cpp brings: its threads have stacks of 100 KiB,
/// and a program with LibTorch has more thread-local storage than that, so that none starts.)
class HttpPage {
 public:
  /// @param at port 0 takes a free one. @throws InputError if it cannot listen there.
  HttpPage(const wire::HostPort& at, std::string path, std::function<std::string()> body);
  ~HttpPage();
  HttpPage(const HttpPage&) = delete;
  HttpPage& operator=(const HttpPage&) = delete;

  /// The port that was taken.
  [[nodiscard]] uint16_t port() const;

 private:
  void serve();
  void answer(const wire::UniqueDescriptor& peer) const;
  [[nodiscard]] std::string response_to(std::string_view request) const;
  [[nodiscard]] std::string receive_request(const wire::UniqueDescriptor& peer) const;

  const std::string path_;
  const std::function<std::string()> body_;
  wire::Acceptor acceptor_;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace tempo::observe
