// A service with simulated evidence and a trainer that is under the test's thumb, and clients of it.
#pragma once

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "attest/source.h"
#include "base/file.h"
#include "seal/sealed_file.h"
#include "service/client.h"
#include "service/server.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::service::testing_peers {

/// Evidence that can be made to misbehave.
class Evidence final : public attest::EvidenceSource {
 public:
  [[nodiscard]] attest::Tee tee() const override { return inner_->tee(); }
  attest::Evidence collect(std::span<const std::byte, 64> report_data) override {
    if (is_replaying && first_) return *first_;
    attest::Evidence evidence = inner_->collect(report_data);
    if (!first_) first_ = evidence;
    return evidence;
  }
  std::atomic<bool> is_replaying = false;  ///< always the first piece again

 private:
  std::unique_ptr<attest::EvidenceSource> inner_ = attest::make_evidence_source("insecure-simulated");
  std::optional<attest::Evidence> first_;
};

/// A policy for this machine's simulated evidence.
inline attest::Policy policy_of_this_machine() {
  const auto source = attest::make_evidence_source("insecure-simulated");
  const attest::ReportData any{};
  return attest::policy_from(source->collect(any), {}, attest::utc_now());
}

/// "Trains" 20 steps: a checkpoint every 5, each sealed under the key it is to have. Stops where `pause_at` says, until
/// told.
struct FakeTraining {
  static inline std::atomic<int64_t> pause_at = -1;
  static inline std::atomic<int64_t> last_start = -1;

  static RunSummary train(const RunConfig& config, const RunHooks& hooks) {
    RunSummary summary;
    int64_t step = 0;
    if (const auto place = hooks.keeper->resumed()) {
      const auto plain = seal::unseal_file(place->file, *place->key, "checkpoint", 1 << 20);
      step = static_cast<int64_t>(plain.size());
    }
    last_start = step;
    const int64_t total = config.steps > 0 ? config.steps : 20;
    while (step < total) {
      ++step;
      hooks.keeper->line(step, "{\"step\":" + std::to_string(step) + ",\"workers\":3}");
      while (pause_at == step && !hooks.stop->load()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      const bool stops = hooks.stop->load() && step < total;
      if (step % 5 == 0 || step == total || stops) save(*hooks.keeper, step, step == total);
      if (stops) break;
    }
    summary.steps = step;
    summary.completed = step == total;
    return summary;
  }

 private:
  static void save(RunKeeper& keeper, int64_t step, bool is_last) {
    const RunKeeper::Place place = keeper.next(step);
    seal::SealedWriter writer(place.file, *place.key, "checkpoint");
    writer.write(attest::Bytes(static_cast<size_t>(step), std::byte{1}));
    writer.commit();
    keeper.saved(step, is_last);
  }
};

/// One service over a state folder; it can be ended and started again.
class Service {
 public:
  /// @param other instead of `evidence`; outlives it.
  explicit Service(attest::EvidenceSource* other = nullptr) : source_(other != nullptr ? *other : evidence) { start(); }
  void start(StoreLimits limits = {}) {
    ServerOptions options;
    options.listen = {"127.0.0.1", 0};
    options.state = folder / "state";
    options.store = limits;
    options.base.workers = "local";
    options.page = "0";
    server = std::make_unique<Server>(options, source_, FakeTraining::train, log);
  }
  void restart() {
    server.reset();
    start();
  }
  [[nodiscard]] std::string logged() const { return read_text_file(folder / "log", 1 << 20); }

  testing::TempFolder folder;
  observe::Log log{(folder / "log").string()};
  Evidence evidence;
  std::unique_ptr<Server> server;

 private:
  attest::EvidenceSource& source_;
};

/// A client with an identity and a memory of its own.
class Owner {
 public:
  ClientOptions options(uint16_t port) const {
    return {.server = {"127.0.0.1", port},
            .policy = policy_of_this_machine(),
            .collateral = {},
            .state = folder / "client",
            .now = attest::utc_now()};
  }
  /// The last line of what this client refused.
  [[nodiscard]] std::string refusal() const {
    const std::string lines = read_text_file(folder / "client/refused.jsonl", 1 << 20);
    return lines.substr(lines.rfind('\n', lines.size() - 2) + 1);
  }
  std::unique_ptr<Client> connect(const Service& service) const { return connect(options(service.server->port())); }
  std::unique_ptr<Client> connect(const ClientOptions& with) const { return std::make_unique<Client>(with, identity); }

  /// Creates a job of generated images and releases its key. @returns its id
  JobId submit(Client& client) const {
    RememberedJob job;
    job.job = client.create(0).job;
    job.config = "model = 'lenet'\n";
    client.jobs().save(job);
    release(client, job.job, true);
    return job.job;
  }
  JobView release(Client& client, const JobId& id, bool is_first = false) const {
    Release release;
    release.job = id;
    release.data_key = key.duplicate();
    release.counter = client.jobs().load(id).counter;
    release.is_first = is_first;
    if (is_first) release.config = "model = 'lenet'\n";
    return client.release(release);
  }
  static JobView wait_for(Client& client, const JobId& id, Phase phase) {
    JobView view;
    for (int i = 0; i < 2000; ++i) {
      view = client.status(id).front();
      if (view.phase == phase) return view;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    throw RunError(std::string("the job is ") + to_string(view.phase) + ", expected " + to_string(phase));
  }

  testing::TempFolder folder;
  TlsIdentity identity = TlsIdentity::make();
  SecretKey key = SecretKey::random();
};

}  // namespace tempo::service::testing_peers
