#include "train/telemetry.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

namespace tempo::train {
namespace {

template <size_t... kIndex>
std::array<std::string, sizeof...(kIndex)> operation_names(std::index_sequence<kIndex...>) {
  return {contract::operation_name(contract::Operation(std::in_place_index<kIndex>))...};
}

}  // namespace

void Telemetry::Follower::follow(double total) {
  counter.add(total - seen);
  seen = total;
}

Telemetry::Telemetry(const std::string& metrics, const std::string& log)
    : log_(log.empty() ? std::make_unique<observe::Log>() : std::make_unique<observe::Log>(log)),
      step_seconds_(metrics_.histogram("tempo_step_seconds", "Time of a training step.")),
      samples_(metrics_.counter("tempo_samples_total", "Images trained on; those of steps done again count again.")),
      checkpoints_(metrics_.counter("tempo_checkpoints_total", "Checkpoints written.")),
      returns_(metrics_.counter("tempo_returns_total", "Times the run went back to its last checkpoint.")),
      joined_(metrics_.counter("tempo_workers_joined_total", "Workers that came, or came back.")),
      lost_(metrics_.counter("tempo_workers_lost_total", "Workers that ended, fell silent or left.")),
      quarantined_(metrics_.counter("tempo_workers_quarantined_total", "Workers left out for a wrong result.")),
      workers_(metrics_.gauge("tempo_workers", "Workers that have a share of the work.")),
      bytes_to_{metrics_.counter("tempo_bytes_total", "Bytes of tensors.", {{"direction", "to_workers"}})},
      bytes_from_{metrics_.counter("tempo_bytes_total", "Bytes of tensors.", {{"direction", "from_workers"}})},
      encryptions_{metrics_.counter("tempo_encryptions_total", "Operands blinded, rekeying excepted.")},
      checks_{metrics_.counter("tempo_integrity_checks_total", "Results verified.")},
      failures_{metrics_.counter("tempo_integrity_failures_total", "Results that were wrong.")},
      reissued_{metrics_.counter("tempo_reissued_total", "Parts of operations that went to a second worker.")} {
  for (const std::string& name : operation_names(std::make_index_sequence<std::variant_size_v<contract::Operation>>()))
    operation_seconds_[name] =
        &metrics_.histogram("tempo_operation_seconds",
                            "Wait for the replies of an operation, from when they were needed.", {{"operation", name}});
  if (!metrics.empty()) server_ = std::make_unique<observe::MetricsServer>(metrics, metrics_);
}

void Telemetry::say(const std::string& note) const {
  if (note_) note_(note);
}

void Telemetry::step_done(double seconds, int64_t samples) {
  step_seconds_.observe(seconds);
  samples_.add(static_cast<double>(samples));
}

void Telemetry::totals(const offload::Counters& counters, const offload::Verifier::Counts& checks, size_t workers) {
  bytes_to_.follow(static_cast<double>(counters.bytes_to_workers));
  bytes_from_.follow(static_cast<double>(counters.bytes_from_workers));
  encryptions_.follow(static_cast<double>(counters.encryptions));
  reissued_.follow(static_cast<double>(counters.reissued));
  checks_.follow(static_cast<double>(checks.checks));
  failures_.follow(static_cast<double>(checks.failures));
  workers_.set(static_cast<double>(workers));
}

void Telemetry::happened(RunEvent event) const {
  event.during = step_;
  if (happened_) happened_(std::max<int64_t>(0, step_ - 1), event);
}

void Telemetry::began(size_t workers, const std::string& names) {
  happened({.event = "run_began", .worker = names, .workers = static_cast<int64_t>(workers)});
}

void Telemetry::saved(int64_t step) {
  if (happened_) happened_(step, {.event = "checkpoint_saved", .during = step});
  checkpoints_.add();
  log_->info("checkpoint_saved", {{"step", step}});
}

void Telemetry::went_back(int64_t to) {
  happened({.event = "went_back", .to_step = to});
  returns_.add();
  log_->warning("went_back", {{"step", step_}, {"to_step", to}});
  say(fmt::format("step {}: going on from step {}", step_, to));
}

void Telemetry::joined(const std::string& uri) {
  happened({.event = "worker_joined", .worker = uri});
  joined_.add();
  log_->info("worker_joined", {{"worker", uri}, {"step", step_}});
  if (step_ > 0) say(fmt::format("step {}: worker {} joined", step_, uri));
}

void Telemetry::lost(const std::string& uri, const std::string& reason) {
  happened({.event = "worker_lost", .worker = uri, .reason = reason});
  lost_.add();
  log_->warning("worker_lost", {{"worker", uri}, {"step", step_}, {"reason", reason}});
  say(fmt::format("step {}: worker lost: {}", step_, reason));
}

void Telemetry::quarantined(const std::string& uri, const std::string& reason) {
  happened({.event = "worker_quarantined", .worker = uri, .reason = reason});
  quarantined_.add();
  log_->error("worker_quarantined", {{"worker", uri}, {"step", step_}, {"reason", reason}});
  say(fmt::format("step {}: worker {} is left out from now on: {}", step_, uri, reason));
}

void Telemetry::reissued(const std::string& what, const std::string& to) {
  happened({.event = "part_reissued", .worker = to, .operation = what});
  log_->warning("part_reissued", {{"operation", what}, {"worker", to}, {"step", step_}});
}

void Telemetry::completed(const char* operation, double seconds) {
  if (const auto found = operation_seconds_.find(std::string_view(operation)); found != operation_seconds_.end())
    found->second->observe(seconds);
}

}  // namespace tempo::train
