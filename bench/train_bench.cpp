// What a training step costs: wholly in the TEE, in Tempo under each setting, and with nothing hidden. Master and
// workers are processes of their own, so the master's CPU time is what a TEE would pay.
//   tee_ms        CPU time of the master a sample; the first steps, which touch all memory for the first time, left out
//   of_local      that of `local` in the same round, over it: how many times less the TEE has to do
//   samples/s     by wall time; workers share this machine's cores
//   *_ms          where the master's wall time went, a sample, first steps included
//   wall_of_local (--worker instant) samples a second over those of `local` with as many threads
// Rounds over all settings are interleaved. The first losses must agree with local's, or a time does not count. With
// --worker instant the worker answers at once with zeros: times are those that the TEE alone allows, results are not
// those of training, so they are neither verified nor compared.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "base/median.h"
#include "base/temporary_folder.h"
#include "benches.h"
#include "child.h"
#include "common/program.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"

namespace tempo::bench {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Setting {
  std::string name, flags;
  [[nodiscard]] bool is_narrow() const { return flags.find("--wire bf16") != std::string::npos; }
};

/// Every setting that the program has a reason for. Tiles of 4 where rows are not mixed: smaller ones would only cost.
const std::vector<Setting>& all_settings() {
  static const std::vector<Setting> settings = {
      {"local", ""},
      {"unprotected", ""},  // plain LibTorch on the workers' device; not of the TEE
      {"none", "--protection none --allow-unprotected --weights returned --conv-tile 4"},
      {"permuted_reuse_none",
       "--protection permuted --allow-unprotected --weights returned --reuse none --conv-tile 4"},
      {"permuted_reuse_fresh",
       "--protection permuted --allow-unprotected --weights returned --reuse fresh --conv-tile 4"},
      {"permuted", "--protection permuted --allow-unprotected --weights returned --reuse full --conv-tile 4"},
      {"permuted_whole", "--protection permuted --allow-unprotected --weights returned --conv-tile 4 --slices 1"},
      {"permuted_bf16",
       "--protection permuted --allow-unprotected --weights returned --conv-tile 4 --wire bf16 --products tf32"},
      {"permuted_unverified",
       "--protection permuted --allow-unprotected --weights returned --conv-tile 4 --integrity off"},
      {"rotated_returned", "--protection rotated --weights returned"},
      {"rotated_resident", "--protection rotated --weights resident"},
      {"rotated_bf16", "--protection rotated --wire bf16 --activations bf16"},
      {"oblique", "--protection oblique"},
      {"oblique_groups", "--protection oblique --row-group 4096"},
      {"oblique_bf16", "--protection oblique --wire bf16 --activations bf16"},
      {"rotated_resident_unverified", "--protection rotated --weights resident --integrity off"},
      {"rotated_resident_tile4", "--protection rotated --weights resident --conv-tile 4 --decoys 0"},
  };
  return settings;
}

struct Options {
  std::vector<std::string> models = {"resnet50"}, settings;
  std::vector<int> batches = {32}, workers = {1}, threads;
  int steps = 6, warm_up = 2, rounds = 3, local_threads = 0, time_limit = 0;
  std::string apps, data = "synthetic", device = "cpu", worker = "computing";

  [[nodiscard]] bool is_instant() const { return worker == "instant"; }
};

struct Case {
  std::string model;
  Setting setting;
  int batch = 0, workers = 0, threads = 1;
};

/// What the cases that are compared with one another have in common.
using LocalKey = std::tuple<std::string, int, int>;

struct Measured {
  double tee_seconds = 0, wall_seconds = 0;
  std::vector<double> losses;
  Json summary;
};

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

std::string last_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line, last;
  while (std::getline(in, line))
    if (!line.empty()) last = line;
  return last;
}

Measured read_run(const fs::path& run, const Options& options, int batch) {
  Measured measured;
  std::vector<double> tee, wall;
  std::ifstream metrics(run / "metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) {
    const Json step = Json::parse(line);
    if (!step.contains("tee_cpu_seconds")) continue;
    measured.losses.push_back(step.at("loss"));
    if (step.at("step").get<int>() <= options.warm_up) continue;
    tee.push_back(step.at("tee_cpu_seconds").get<double>() / batch);
    wall.push_back(step.at("seconds").get<double>() / batch);
  }
  if (tee.empty()) throw RunError("bench: a run has no steps after its warm-up");
  measured.tee_seconds = median(tee);
  measured.wall_seconds = median(wall);
  measured.summary = Json::parse(std::ifstream(run / "summary.json"));
  return measured;
}

/// Plain LibTorch, by `tempo-bench plain` in a process of its own.
Measured train_plainly(const Case& what, const Options& options, const fs::path& messages) {
  Measured measured;
  Child child(fs::path(options.apps) / "tempo-bench",
              words_of(fmt::format("plain --model {} --batch-size {} --steps {} --device {} --threads {}", what.model,
                                   what.batch, options.steps, options.device, what.threads)),
              messages);
  std::vector<double> wall;
  for (int step = 1; step <= options.steps; ++step) {
    const Json line = Json::parse(child.next_line());
    measured.losses.push_back(line.at("loss"));
    if (step > options.warm_up) wall.push_back(line.at("seconds").get<double>() / what.batch);
  }
  if (const int code = child.wait(); code != 0) throw RunError(fmt::format("plain training ended with {}", code));
  measured.wall_seconds = median(wall);
  return measured;
}

/// A worker process, which listens once this returns.
std::unique_ptr<Child> start_worker(const std::string& uri, const Options& options, const fs::path& messages) {
  const fs::path apps = options.apps;
  std::unique_ptr<Child> worker =
      options.is_instant()
          ? std::make_unique<Child>(apps / "tempo-bench", words_of(fmt::format("instant-worker --listen {}", uri)),
                                    messages)
          : std::make_unique<Child>(apps / "tempo-worker",
                                    words_of(fmt::format("--listen {} --device {}", uri, options.device)), messages);
  worker->next_line();
  return worker;
}

/// The flags of a setting. An instant worker's results would not pass verification.
std::string flags_of(const Setting& setting, const Options& options) {
  const bool is_to_add =
      options.is_instant() && setting.name != "local" && setting.flags.find("--integrity") == std::string::npos;
  return setting.flags + (is_to_add ? " --integrity off" : "");
}

Measured train(const Case& what, const Options& options) {
  static const TemporaryFolder folder;
  static int serial = 0;
  const fs::path run = folder.path() / fmt::format("run-{}", ++serial), messages = folder.path() / "messages";
  if (what.setting.name == "unprotected") return train_plainly(what, options, messages);
  std::vector<std::unique_ptr<Child>> workers;
  std::string uris;
  for (int i = 0; what.setting.name != "local" && i < what.workers; ++i) {
    const std::string uri = fmt::format("shm://tempo-bench-{}-{}", getpid(), i);
    workers.push_back(start_worker(uri, options, folder.path() / "worker"));
    uris += uris.empty() ? uri : fmt::format(",{}", uri);
  }
  std::vector<std::string> arguments = words_of(fmt::format(
      "train --model {} --data {} --batch-size {} --steps {} --offload auto --tee-threads {} --seed 3 --lr 0.001 "
      "--optimizer {} --workers {} --out {} {}",
      what.model, options.data, what.batch, options.steps, what.threads,
      what.model.rfind("vit", 0) == 0 ? "adamw" : "sgd", uris.empty() ? "local" : uris, run.string(),
      flags_of(what.setting, options)));
  if (options.data == "synthetic")
    for (const std::string& word :
         words_of(fmt::format("--train-size {} --test-size {}", what.batch * options.steps, what.batch)))
      arguments.push_back(word);
  Child master(fs::path(options.apps) / "tempo", arguments, messages);
  if (const int code = master.wait(); code != 0)
    throw RunError(fmt::format("{} ended with {}: {}", what.setting.name, code, last_line(messages)));
  Measured measured = read_run(run, options, what.batch);
  fs::remove_all(run);
  return measured;
}

/// The tolerances of the first loss, which is that of the same weights, and of the second, after one update. Later ones
/// part by rounding, and all of them do on a narrow wire: there the first may differ as much as the second.
std::string disagreement(const std::vector<double>& losses, const std::vector<double>& expected, bool is_narrow) {
  const double tolerated[] = {is_narrow ? 1e-2 : 1e-3, 1e-2};
  for (size_t i = 0; i < std::min({losses.size(), expected.size(), std::size(tolerated)}); ++i)
    if (!(std::abs(losses[i] - expected[i]) < tolerated[i] * std::abs(expected[i])))
      return fmt::format("loss {} after {} updates, local has {}: timing discarded", losses[i], i, expected[i]);
  return {};
}

void count(benchmark::State& state, const Case& what, const Measured& measured, const Measured& local) {
  const double samples = static_cast<double>(what.batch) * measured.summary.at("steps").get<double>();
  const auto per_sample = [&](const char* name) { return measured.summary.at(name).get<double>(); };
  state.counters["tee_ms"] = 1e3 * measured.tee_seconds;
  state.counters["of_local"] = local.tee_seconds / measured.tee_seconds;
  state.counters["samples/s"] = 1 / measured.wall_seconds;
  state.counters["up_MB"] = 1e-6 * per_sample("bytes_to_workers_per_sample");
  state.counters["down_MB"] = 1e-6 * per_sample("bytes_from_workers_per_sample");
  state.counters["peak_MB"] = 1e-6 * per_sample("peak_resident_bytes");
  for (const auto& [pass, seconds] : measured.summary.at("wall_seconds").items())
    state.counters[fmt::format("{}_ms", pass)] = 1e3 * seconds.get<double>() / samples;
}

double epoch_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Since the first call.
double seconds_since_start() {
  static const auto start = std::chrono::steady_clock::now();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run_case(benchmark::State& state, const Case& what, const Options& options, std::map<LocalKey, Measured>& locals) {
  if (options.time_limit > 0 && seconds_since_start() > options.time_limit)
    return state.SkipWithError("not begun: the time limit is over");
  const int local_threads = options.local_threads > 0 ? options.local_threads : what.threads;
  Measured& local = locals[{what.model, what.batch, local_threads}];
  try {
    for (auto _ : state) {
      const double begin = epoch_seconds();
      const Measured measured = train(what, options);
      // So that a record of the device's use can be laid beside it.
      state.counters["begin_s"] = begin;
      state.counters["end_s"] = epoch_seconds();
      if (what.setting.name == "local") local = measured;
      state.SetIterationTime(measured.wall_seconds);
      if (what.setting.name == "unprotected") {  // other initial weights: its losses are its own
        state.counters["samples/s"] = 1 / measured.wall_seconds;
        continue;
      }
      if (local.tee_seconds == 0) local = train({what.model, all_settings()[0], what.batch, 0, local_threads}, options);
      count(state, what, measured, local);
      if (options.is_instant()) {
        state.counters["wall_of_local"] = local.wall_seconds / measured.wall_seconds;
        continue;  // its losses are those of zeros
      }
      if (const std::string problem = disagreement(measured.losses, local.losses, what.setting.is_narrow());
          !problem.empty())
        state.SkipWithError(problem.c_str());
    }
  } catch (const std::exception& error) {
    state.SkipWithError(error.what());
  }
}

Options parse(int argc, char** argv) {
  Options options;
  options.apps = fs::read_symlink("/proc/self/exe").parent_path().string();
  CLI::App app("What a training step costs; --benchmark_out=FILE and Google Benchmark's other flags work, too",
               "tempo-bench train");
  app.add_option("--model", options.models, "models, separated by commas")->delimiter(',');
  std::string names;
  for (const Setting& setting : all_settings()) names += (names.empty() ? "" : ", ") + setting.name;
  app.add_option("--setting", options.settings, fmt::format("settings, separated by commas; default: all of {}", names))
      ->delimiter(',');
  app.add_option("--batch-size", options.batches, "batch sizes")
      ->delimiter(',')
      ->check(apps::Number::whole(1, 1 << 30));
  app.add_option("--workers", options.workers, "numbers of workers")
      ->delimiter(',')
      ->check(apps::Number::whole(1, 1 << 30));
  app.add_option("--steps", options.steps, "steps of a run")->check(apps::Number::whole(1, 1 << 30));
  app.add_option("--warm-up", options.warm_up, "steps of a run that are not counted")
      ->check(apps::Number::whole(0, 1 << 30));
  app.add_option("--rounds", options.rounds, "runs of each setting")->check(apps::Number::whole(1, 1 << 30));
  app.add_option("--threads,--tee-threads", options.threads,
                 "threads of the master, of which there may be several, separated by commas; default: 1, or 1,2 with "
                 "--worker instant")
      ->delimiter(',')
      ->check(apps::Number::whole(1, 1 << 30));
  app.add_option("--worker", options.worker,
                 "computing, or instant: one that answers at once with zeros, for what the TEE alone allows; results "
                 "are then not those of training, nothing is verified, and losses are not compared");
  app.add_option("--local-threads", options.local_threads, "of the setting `local`, which shares its CPUs with nobody")
      ->check(apps::Number::whole(1, 1 << 30));
  app.add_option("--time-limit", options.time_limit, "seconds, after which no other run is begun; 0: none")
      ->check(apps::Number::whole(0, 1 << 30));
  app.add_option("--data", options.data, "synthetic, or a folder");
  app.add_option("--worker-device", options.device, "cpu or cuda:N");
  app.add_option("--apps", options.apps, "folder of tempo and tempo-worker");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    std::exit(app.exit(help));
  } catch (const CLI::ParseError& error) {
    throw InputError(fmt::format("train: {}", error.what()));
  }
  if (options.worker != "computing" && options.worker != "instant")
    throw InputError(fmt::format("train: --worker: got \"{}\", expected computing or instant", options.worker));
  if (options.threads.empty()) options.threads = options.is_instant() ? std::vector{1, 2} : std::vector{1};
  if (options.warm_up >= options.steps)
    throw InputError(
        fmt::format("train: {} steps of which {} are warm-up, expected more", options.steps, options.warm_up));
  const auto& known = all_settings();
  for (const std::string& name : options.settings)
    if (std::none_of(known.begin(), known.end(), [&](const Setting& s) { return s.name == name; }))
      throw InputError(fmt::format("train: got the setting \"{}\", expected one of {}", name, names));
  return options;
}

bool is_wanted(const Setting& setting, const std::string& model, const Options& options) {
  if (!options.settings.empty() && std::count(options.settings.begin(), options.settings.end(), setting.name) == 0)
    return false;
  if (setting.name == "permuted_whole" && options.device == "cpu") return false;  // as `permuted` is there
  if (setting.name == "unprotected" && options.is_instant()) return false;        // it has no worker
  const bool is_resident = setting.flags.find("resident") != std::string::npos;
  return !is_resident || model.rfind("vit", 0) != 0;  // AdamW runs in the TEE
}

/// The cases of one model, in one round. `local` has no workers: there is one for each number of threads.
std::vector<Case> cases_of(const std::string& model, const Options& options) {
  std::vector<Case> cases;
  for (const int batch : options.batches)
    for (const int threads : options.threads)
      for (const int workers : options.workers)
        for (const Setting& setting : all_settings()) {
          if (!is_wanted(setting, model, options)) continue;
          Case what{model, setting, batch, workers, threads};
          if (setting.name == "local") {
            if (workers != options.workers.front()) continue;
            if (options.local_threads > 0 && threads != options.threads.front()) continue;
            what.workers = 0;
            if (options.local_threads > 0) what.threads = options.local_threads;
          }
          cases.push_back(what);
        }
  return cases;
}

std::string name_of(const Case& what, const Options& options) {
  const std::string name =
      fmt::format("{}/{}/batch:{}/workers:{}", what.model, what.setting.name, what.batch, what.workers);
  return options.threads.size() > 1 ? fmt::format("{}/threads:{}", name, what.threads) : name;
}

}  // namespace

int run_train(int argc, char** argv) {
  for (int i = 1; i < argc; ++i)
    if (std::string(argv[i]) == "--help")
      parse(argc, argv);  // which ends: Google Benchmark's own knows no flag of ours
  benchmark::Initialize(&argc, argv);
  const Options options = parse(argc, argv);
  if (options.is_instant())
    observe::note("the worker answers at once with zeros: times are those of the TEE alone, results not of training\n");
  seconds_since_start();
  std::map<LocalKey, Measured> locals;
  for (int round = 1; round <= options.rounds; ++round)
    for (const std::string& model : options.models)
      for (const Case& what : cases_of(model, options))
        benchmark::RegisterBenchmark(
            name_of(what, options).c_str(),
            [what, &options, &locals](benchmark::State& state) { run_case(state, what, options, locals); })
            ->Iterations(1)
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace tempo::bench
