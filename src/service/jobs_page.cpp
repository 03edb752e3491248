#include "service/jobs_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>
#include <vector>

#include "observe/http_server.h"
#include "page/document.h"

namespace tempo::service {

struct JobsPage::State {
  observe::HttpServer server;
};

namespace {

/// The running job, then those that wait for it in their order, then those that began last.
std::tuple<int, uint32_t, int64_t> place_of(const std::pair<JobSight, uint32_t>& job) {
  const auto& [sight, ahead] = job;
  const int kind = sight.phase == Phase::kRunning ? 0 : sight.phase == Phase::kQueued ? 1 : 2;
  return {kind, ahead, -sight.began};
}

}  // namespace

std::string jobs_json(const JobStore& jobs, const JobQueue& queue) {
  std::vector<std::pair<JobSight, uint32_t>> list;
  for (const auto& job : jobs.all()) list.emplace_back(job->sight(), queue.ahead_of(*job));
  std::stable_sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return place_of(a) < place_of(b); });
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const auto& [sight, ahead] : list)
    all.push_back({{"job", to_string(sight.job)},
                   {"state", to_string(sight.phase)},
                   {"ahead", ahead},
                   {"began", sight.began},
                   {"step", sight.step},
                   {"workers", sight.workers},
                   {"archive_bytes", sight.archive_bytes}});
  return nlohmann::ordered_json{{"jobs", all}}.dump();
}

JobsPage::JobsPage(const std::string& address, const JobStore& jobs, const JobQueue& queue) {
  wire::HostPort at = observe::parse_page_address("page", address);
  observe::HttpPages pages;
  pages["/"] = {.content_type = "text/html; charset=utf-8",
                .body = [&](const observe::HttpQuery&) { return page::jobs_document(jobs_json(jobs, queue)).html; },
                .security_policy = page::jobs_document("{}").security_policy};
  pages["/jobs.json"] = {.content_type = "application/json",
                         .body = [&](const observe::HttpQuery&) { return jobs_json(jobs, queue); }};
  state_.reset(new State{.server = observe::HttpServer("page", at, observe::HostCheck::kOwnName, std::move(pages))});
  at.port = state_->server.port();
  address_ = fmt::format("http://{}/", wire::to_string(at));
}

JobsPage::~JobsPage() = default;

}  // namespace tempo::service
