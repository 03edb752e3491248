#include "page/live_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "base/text.h"
#include "observe/http_server.h"
#include "page/run_history.h"
#include "tempo/error.h"

namespace tempo::page {
namespace {

uint64_t number_of(const observe::HttpQuery& query, std::string_view name) {
  const auto found = query.find(name);
  if (found == query.end()) return 0;
  const auto value = parse_decimal(found->second);
  if (!value || *value < 0) throw InputError(fmt::format("{}: expected a whole number from 0", name));
  return static_cast<uint64_t>(*value);
}

}  // namespace

struct LivePage::State {
  std::string page() {
    RunView now;
    {
      const std::lock_guard lock(mutex);  // the run waits for it: no longer than need be
      now = run;
      now.history = history.to_json();
    }
    return run_document("Run " + now.name, {now}, true).html;
  }
  std::string data(const observe::HttpQuery& query) {
    const RunHistory::Cursor since = {.generation = number_of(query, "generation"),
                                      .steps = number_of(query, "steps"),
                                      .tests = number_of(query, "tests"),
                                      .events = number_of(query, "events")};
    const std::lock_guard lock(mutex);
    return history.to_json(since);
  }

  RunView run;
  std::mutex mutex;
  RunHistory history;
  std::optional<observe::HttpServer> server;  // last: it calls the above
};

LivePage::LivePage(const std::string& address) : state_(std::make_unique<State>()) {
  wire::HostPort at = observe::parse_page_address("page", address);
  State& state = *state_;
  observe::HttpPages pages;
  pages["/"] = {.content_type = "text/html; charset=utf-8",
                .body = [&state](const observe::HttpQuery&) { return state.page(); },
                .security_policy = run_document("", {}, true).security_policy};
  pages["/data.json"] = {.content_type = "application/json",
                         .body = [&state](const observe::HttpQuery& query) { return state.data(query); }};
  state_->server.emplace("page", at, observe::HostCheck::kOwnName, std::move(pages));
  at.port = state_->server->port();
  address_ = fmt::format("http://{}/", wire::to_string(at));
}

LivePage::~LivePage() = default;

void LivePage::describe(RunView run) {
  const std::lock_guard lock(state_->mutex);
  state_->run = std::move(run);
}

void LivePage::add_line(const std::string& line) try {
  const std::lock_guard lock(state_->mutex);
  state_->history.add_line(line);
} catch (const InputError&) {
  // A line of an older run's file, say: the run matters more than its page.
}

void LivePage::went_back(int64_t step) {
  const std::lock_guard lock(state_->mutex);
  state_->history.went_back(step);
}

}  // namespace tempo::page
