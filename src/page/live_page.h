/// The page of a run while it goes on.
#pragma once

#include <memory>
#include <string>

#include "page/document.h"

namespace tempo::page {

/// Serves the page of one run until destroyed, to whoever reaches it: what metrics.jsonl and config.toml say. Memory is
/// bounded, as of RunHistory. Thread-safe.
class LivePage {
 public:
  /// @param address PORT of localhost, or HOST:PORT; port 0 takes a free one.
  /// @throws InputError for a bad address, one that is in use or not of this machine.
  explicit LivePage(const std::string& address);
  ~LivePage();

  /// @param run without history; before the first line, if it is to be seen from the start.
  void describe(RunView run);

  /// A line of metrics.jsonl, without its end. What is none is left out.
  void add_line(const std::string& line);
  void went_back(int64_t step);

  /// "http://localhost:8080/", with the port that was taken.
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string address_;
};

}  // namespace tempo::page
