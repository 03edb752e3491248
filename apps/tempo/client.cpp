// tempo submit | status | logs | fetch | cancel: the data owner's end of the job service. Every one of them attests the
// service before it asks anything.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "attest/collateral.h"
#include "attest/policy.h"
#include "base/file.h"
#include "base/folder_lock.h"
#include "base/path.h"
#include "base/text.h"
#include "commands.h"
#include "obfuscation/protection.h"
#include "observe/standard_streams.h"
#include "seal/key_file.h"
#include "seal/sealed_archive.h"
#include "seal/sealed_file.h"
#include "service/client.h"
#include "service/job_config.h"
#include "tempo/error.h"
#include "train/config.h"

namespace tempo::apps {
namespace {

using service::Client;
using service::JobView;
using service::Phase;

/// What all of them take.
struct ClientFlags {
  std::string server, policy, now, identity, state, job;
  std::vector<std::string> collateral;

  void add_to(CLI::App& command, bool is_job_required) {
    command.add_option("--server", server, "HOST:PORT of the service")->required();
    command.add_option("--policy", policy, "JSON: which code and which machines to trust")
        ->required()
        ->type_name("FILE");
    command.add_option("--collateral", collateral, "vendors' certificates, revocation lists and TCB info; may repeat")
        ->type_name("FILE");
    command.add_option("--now", now, "time of appraisal, e.g. 2025-07-01T10:00:00Z; default: the clock's")
        ->type_name("TIME");
    command
        .add_option("--identity", identity, "this client's key, made at first use; default: ~/.config/tempo/client.pem")
        ->type_name("FILE");
    command
        .add_option("--client-state", state,
                    "what is remembered of jobs and collateral, and what was refused; default: ~/.config/tempo")
        ->type_name("DIR");
    if (is_job_required) command.add_option("job", job, "its id, 32 hex digits")->required();
  }

  /// Read once: it may come out of a pipe.
  const attest::Policy& read_policy() {
    if (!policy_) policy_ = attest::parse_policy(read_file_or_pipe(policy, attest::kMaxPolicyBytes), policy);
    return *policy_;
  }

  /// Connects and attests.
  void connect() {
    const auto home = [](const char* name) { return seal::default_key_path().parent_path() / name; };
    bool created = false;
    const std::filesystem::path key = identity.empty() ? home("client.pem") : std::filesystem::path(identity);
    identity_.emplace(service::TlsIdentity::load_or_create(key, &created));
    if (created) observe::note("made the client key {}: jobs belong to whoever holds it\n", key.string());
    attest::Collateral all;
    for (const std::string& file : collateral)
      all.merge(attest::parse_collateral(read_file_or_pipe(file, attest::kMaxCollateralBytes), file));
    client_ = std::make_unique<Client>(
        service::ClientOptions{.server = wire::parse_host_port(server),
                               .policy = read_policy(),
                               .collateral = std::move(all),
                               .state = state.empty() ? home("") : std::filesystem::path(state),
                               .now = now.empty() ? attest::utc_now() : attest::parse_utc(now, "--now")},
        *identity_);
    observe::note("attested: {}, measurement {}\n", attest::name_of(client_->appraisal().tee),
                  client_->appraisal().measurement);
  }
  [[nodiscard]] Client& client() const { return *client_; }
  [[nodiscard]] service::JobId id() const { return service::parse_job_id(job); }

 private:
  std::optional<attest::Policy> policy_;
  std::optional<service::TlsIdentity> identity_;
  std::unique_ptr<Client> client_;
};

void print_view(const JobView& view) {
  std::string more;
  if (view.phase == Phase::kUploading) more = fmt::format(", {} of {} bytes", view.uploaded, view.archive_bytes);
  if (view.phase == Phase::kQueued) more = fmt::format(", {} ahead", view.ahead);
  if (view.counter > 0) more += fmt::format(", step {}, state {}", view.step, view.counter);
  if (!view.note.empty()) more += ": " + view.note;
  observe::print("{} {}{}\n", service::to_string(view.job), service::to_string(view.phase), more);
}

struct SubmitFlags : ClientFlags {
  std::string key, data, config, resume;
  std::vector<std::string> training;
  bool is_waiting = false;
};

/// "--lr 0.1", "--lr=0.1" and switches, as `tempo train` takes them.
train::Settings training_settings(const std::vector<std::string>& words) {
  train::Settings settings;
  for (size_t i = 0; i < words.size(); ++i) {
    if (!words[i].starts_with("--"))
      throw InputError(fmt::format("got \"{}\" among the training flags, expected --NAME VALUE", words[i]));
    const size_t equals = words[i].find('=');
    const std::string name = words[i].substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto field = std::find_if(train::fields().begin(), train::fields().end(),
                                    [&](const train::Field& known) { return known.name == name; });
    if (field == train::fields().end())
      throw InputError(fmt::format("--{}: not a training flag; see tempo train --help", name));
    const bool has_next = i + 1 < words.size() && !words[i + 1].starts_with("--");
    if (equals != std::string::npos)
      settings[name] = words[i].substr(equals + 1);
    else if (has_next)
      settings[name] = words[++i];
    else if (field->is_switch)
      settings[name] = "true";
    else
      throw InputError(fmt::format("--{}: got nothing, expected a value", name));
  }
  return settings;
}

/// The job's settings as TOML: those that were given, and no default: those are the service's.
std::string job_toml(const SubmitFlags& flags) {
  train::Settings settings;
  if (!flags.config.empty()) settings = train::read_settings(flags.config);
  for (const auto& [name, value] : training_settings(flags.training)) settings[name] = value;
  RunConfig config;
  train::apply_settings(config, settings, "--");  // a bad value is refused here, not there
  std::string toml;
  for (const train::Field& field : train::fields()) {
    const auto given = settings.find(field.name);
    if (given == settings.end()) continue;
    if (service::is_for_the_service(field.name))
      throw InputError(fmt::format("--{}: is for the service to decide, expected it not to be set", field.name));
    if (given->second.empty())
      throw InputError(
          fmt::format("--{}: got \"\", expected a value; leave it out for the service's default", field.name));
    toml += train::toml_line(field, config);
  }
  return toml;
}

/// The data owner's own rule, asked before anything is sent: the service would take the job's word.
void demand_protection(SubmitFlags& flags, const std::string& toml) {
  RunConfig config;
  train::apply_settings(config, train::parse_settings(toml, "job"), "job: ");
  if (obfuscation::protects(config.blinding) || flags.read_policy().allow_unprotected) return;
  throw InputError(
      fmt::format("protection={}: workers can recover every weight and image; expected rotated, or "
                  "\"allow_unprotected\": true in the policy {}",
                  config.blinding.protection, flags.policy));
}

service::RememberedJob new_job(SubmitFlags& flags, const SecretKey& key) {
  service::RememberedJob job;
  job.server = flags.server;
  job.config = job_toml(flags);
  demand_protection(flags, job.config);
  uint64_t bytes = 0;
  if (!flags.data.empty() && flags.data != "synthetic") {
    job.archive = std::filesystem::absolute(flags.data).string();
    check_text(job.archive, "--data");  // it is remembered as JSON
    job.archive_id = attest::digest_from_hex<16>(seal::SealedArchive(flags.data, key).id(), "archive");
    bytes = std::filesystem::file_size(flags.data);
  }
  flags.connect();
  job.job = flags.client().create(bytes).job;
  flags.client().jobs().save(job);
  return job;
}

void upload(Client& client, const service::RememberedJob& job) {
  const JobView view = client.status(job.job).front();
  if (view.phase != Phase::kUploading) return;
  const bool is_terminal = isatty(STDERR_FILENO) != 0;
  client.upload(job.job, job.archive, view.uploaded, [&](uint64_t sent) {
    if (is_terminal) observe::note("\rsent {} of {} MiB", sent >> 20, view.archive_bytes >> 20);
  });
  if (is_terminal) observe::note("\n");
}

bool wait_for_end(Client& client, const service::JobId& id) {
  for (;;) {
    const JobView view = client.status(id).front();
    if (service::is_over(view.phase)) {
      print_view(view);
      return view.phase == Phase::kDone;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
}

void submit(SubmitFlags& flags) {
  const SecretKey key = seal::load_key(flags.key);
  service::RememberedJob job;
  if (flags.resume.empty()) {
    job = new_job(flags, key);
  } else {
    flags.connect();
    job = flags.client().jobs().load(service::parse_job_id(flags.resume));
    demand_protection(flags, job.config);
  }
  observe::print("job {}\n", service::to_string(job.job));
  observe::flush_output();
  Client& client = flags.client();
  upload(client, job);
  service::Release release;
  release.job = job.job;
  release.data_key = key.duplicate();
  release.counter = job.counter;
  if (job.counter == 0) {  // it has no state that we know of: say what it is to do
    release.is_first = true;
    release.config = job.config;
    release.archive_id = job.archive_id;
  }
  try {
    print_view(client.release(release));
  } catch (const InputError&) {
    if (flags.resume.empty()) client.jobs().forget(job.job);  // the service has removed it: it could never run
    throw;
  }
  observe::flush_output();
  if (flags.is_waiting && !wait_for_end(client, job.job)) throw RunError("the job did not end well");
}

void add_submit_flags(CLI::App& command, SubmitFlags& flags) {
  flags.add_to(command, false);
  command.add_option("--key", flags.key, "key file that sealed the data")->required()->type_name("FILE");
  command.add_option("--data", flags.data, "sealed archive to train on; without it, generated images")
      ->type_name("FILE");
  command.add_option("--config", flags.config, "TOML file of training settings; flags after -- override it")
      ->type_name("FILE");
  command.add_option("--resume", flags.resume, "go on with this job: finish its upload, or release its key again")
      ->type_name("JOB");
  command.add_flag("--wait", flags.is_waiting, "wait until the job is over");
  command.add_option("training", flags.training,
                     "after --: flags of tempo train, e.g. -- --model resnet18 --epochs 10");
}

struct LogsFlags : ClientFlags {
  bool is_following = false;
};

void logs(LogsFlags& flags) {
  flags.connect();
  for (uint64_t next = 0;;) {
    const Client::Lines got = flags.client().logs(flags.id(), next);
    for (const std::string& line : got.lines) observe::print("{}\n", line);
    observe::flush_output();
    next = got.first + got.lines.size();
    if (!got.lines.empty()) continue;
    if (!flags.is_following || got.is_over) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
}

struct FetchFlags : ClientFlags {
  std::string key, out;
};

void write_text(const std::filesystem::path& path, const std::string& text) {
  AtomicFile file(path, 0600);
  file.write(text);
  file.commit();
}

/// A run directory, as `tempo train` leaves one: `eval`, `predict` and `export` take it.
void fetch(FetchFlags& flags) {
  const SecretKey key = seal::load_key(flags.key);
  const std::filesystem::path out = flags.out;
  std::optional<FolderLock> lock;
  const auto claim = [&] {
    lock.emplace(out);
    if (is_there(out / "checkpoint.tempo"))
      throw InputError(fmt::format("{}: holds a run already, expected a folder to make", flags.out));
  };
  if (is_there(out)) claim();
  flags.connect();
  service::FetchedJob job = flags.client().fetch(flags.id(), key);
  if (!lock) {
    make_folders(out);
    claim();
  }
  if (!job.checkpoint.empty()) {
    seal::SealedWriter writer(out / "checkpoint.tempo", key, "checkpoint");
    writer.write(job.checkpoint);
    writer.commit();
    sodium_memzero(job.checkpoint.data(), job.checkpoint.size());
  }
  std::string lines;
  for (const service::LogLine& line : job.state.lines) lines += line.text + "\n";
  write_text(out / "metrics.jsonl", lines);
  write_text(out / "config.toml", job.state.config);
  if (!job.state.summary.empty()) write_text(out / "summary.json", job.state.summary);
  observe::print("{} {}, step {}, state {}; wrote {}\n", flags.job, service::to_string(job.state.phase), job.state.step,
                 job.state.counter, flags.out);
  if (job.checkpoint.empty()) throw RunError(fmt::format("{}: the job has no checkpoint yet", flags.job));
}

}  // namespace

void add_submit(CLI::App& app) {
  auto* command = app.add_subcommand("submit", "Attest a service, send it sealed data, and release the key to it");
  auto flags = std::make_shared<SubmitFlags>();
  add_submit_flags(*command, *flags);
  command->callback([flags] { submit(*flags); });
}

void add_status(CLI::App& app) {
  auto* command = app.add_subcommand("status", "How this client's jobs are");
  auto flags = std::make_shared<ClientFlags>();
  flags->add_to(*command, false);
  command->add_option("job", flags->job, "only this one");
  command->callback([flags] {
    flags->connect();
    std::optional<service::JobId> job;
    if (!flags->job.empty()) job = flags->id();
    for (const JobView& view : flags->client().status(job)) print_view(view);
  });
}

void add_logs(CLI::App& app) {
  auto* command = app.add_subcommand("logs", "Losses and accuracies of a job, as in metrics.jsonl");
  auto flags = std::make_shared<LogsFlags>();
  flags->add_to(*command, true);
  command->add_flag("--follow", flags->is_following, "show new lines until the job is over");
  command->callback([flags] { logs(*flags); });
}

void add_fetch(CLI::App& app) {
  auto* command = app.add_subcommand("fetch", "Get a job's model, sealed under the key of its data");
  auto flags = std::make_shared<FetchFlags>();
  flags->add_to(*command, true);
  command->add_option("--key", flags->key, "key file that sealed the data")->required()->type_name("FILE");
  command->add_option("--out", flags->out, "run directory to make")->required()->type_name("DIR");
  command->callback([flags] { fetch(*flags); });
}

void add_cancel(CLI::App& app) {
  auto* command = app.add_subcommand("cancel", "Stop a job after its step; what it has can be fetched");
  auto flags = std::make_shared<ClientFlags>();
  auto is_removing = std::make_shared<bool>(false);
  flags->add_to(*command, true);
  command->add_flag("--remove", *is_removing, "delete all that the service keeps of it; it must not be running");
  command->callback([flags, is_removing] {
    flags->connect();
    const JobView view = flags->client().cancel(flags->id(), *is_removing);
    if (*is_removing)
      observe::print("{} removed\n", flags->job);
    else
      print_view(view);
  });
}

}  // namespace tempo::apps
