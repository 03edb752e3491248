// How the gain grows with the work: one encoder block of a transformer at several widths, wholly in the TEE and in
// Tempo, with the layers and the session that training uses. The worker is a process of its own, so this process's CPU
// time is what a TEE would pay. All four products with weights are offloaded; attention's two stay, as placement has
// it.
//   training   both gradients and SGD with momentum; with keys that allow it, weights stay on the worker and are
//   updated
//              there, else they travel both ways in every step
//   frozen     weights stay as they are: the gradient of the input alone
//   inference  forward only
// Weights that stay on the worker are sent before what is timed. New keys for them, every ten steps by default, are not
// counted. A computing worker's results are verified, and compared with local's; an instant one answers with zeros, and
// nothing is verified.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/types.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/median.h"
#include "base/temporary_folder.h"
#include "benches.h"
#include "child.h"
#include "common/program.h"
#include "nn/models/encoder_block.h"
#include "nn/models/initialise.h"
#include "nn/offloaded.h"
#include "observe/standard_streams.h"
#include "offload/worker_factory.h"
#include "rows_only.h"
#include "tempo/error.h"
#include "train/optimiser.h"
#include "yardstick.h"

namespace tempo::bench {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

enum class Mode { kTraining, kFrozen, kInference };
const std::vector<std::pair<std::string, Mode>> kModes = {
    {"training", Mode::kTraining}, {"frozen", Mode::kFrozen}, {"inference", Mode::kInference}};
const std::vector<std::string> kSettings = {"permuted", "rotated", "rows-only"};
constexpr int64_t kHeadWidth = 64;

struct WidthOptions {
  std::vector<int64_t> widths = {256, 512, 1024, 2048, 3072, 4096};
  std::vector<std::string> modes = {"training", "frozen", "inference"}, settings = kSettings;
  int64_t batch = 32, tokens = 65;
  int threads = 1, steps = 3, warm_up = 1, rounds = 1;
  double decoys = BlindingOptions{}.decoys;
  std::string worker = "computing";

  [[nodiscard]] bool is_instant() const { return worker == "instant"; }
};

/// One block, its input and the gradient that comes back to it.
struct Block {
  Block(const WidthOptions& options, int64_t width) : block(width, width / kHeadWidth) {
    Csprng random(SecretKey::random());
    for (const auto& module : block->modules(/*include_self=*/false)) {
      if (auto* layer = module->as<nn::LinearImpl>()) nn::init_truncated_weight(*layer, 0.02, random);
      if (auto* norm = module->as<nn::LayerNormImpl>()) nn::init_norm(*norm);
    }
    x = torch::empty({options.batch, options.tokens, width});
    dy = torch::empty_like(x);
    nn::init_normal(x, 1, random);
    nn::init_normal(dy, 1e-3, random);
  }

  nn::EncoderBlock block;
  Tensor x, dy;
};

/// What a step computes that can be compared.
struct StepResults {
  Tensor y, dx;
};

/// The block under one setting: `local`, or one of kSettings. The block is the caller's, and local again afterwards.
class Run {
 public:
  Run(const WidthOptions& options, Block& block, const std::string& setting, Mode mode, const std::string& uri)
      : block_(block), mode_(mode) {
    if (setting != "local") offload(options, setting, uri);
    std::vector<train::NamedParameter> in_tee;
    for (auto& item : block.block->named_parameters()) {
      const bool is_updated_there = std::any_of(products_.begin(), products_.end(), [&](const auto& product) {
        return product->parameter()->keeps_gradient() && item.key() == product->layer() + ".weight";
      });
      item.value().set_requires_grad(mode == Mode::kTraining);
      if (mode == Mode::kTraining && !is_updated_there) in_tee.push_back({item.key(), item.value()});
    }
    RunConfig config;  // its rate is zero in every step: the same work, and weights that stay
    optimiser_ = train::make_optimiser(config, std::move(in_tee));
  }
  ~Run() {
    for (const auto& module : block_.block->modules(/*include_self=*/false))
      if (auto* layer = dynamic_cast<nn::ProductLayer*>(module.get())) layer->attach(nullptr);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  StepResults step() {
    ++steps_;
    if (session_) session_->begin_pass({.number = steps_});
    if (mode_ == Mode::kInference) {
      const torch::NoGradGuard no_grad;
      return {block_.block->forward(block_.x), {}};
    }
    const Tensor x = block_.x.detach().requires_grad_(true);
    const Tensor y = block_.block->forward(x);
    y.backward(block_.dy);
    if (mode_ == Mode::kTraining) update();
    return {y.detach(), x.grad()};
  }

 private:
  void offload(const WidthOptions& options, const std::string& setting, const std::string& uri) {
    BlindingOptions blinding{.protection = setting, .decoys = options.decoys};
    const bool can_reside = obfuscation::make_protection(blinding)->is_orthogonal();
    if (can_reside && mode_ == Mode::kTraining) blinding.weights = WeightPlacement::kResident;
    session_ =
        std::make_unique<offload::Session>(blinding, SecretKey::random(), offload::make_worker(uri), options.threads,
                                           integrity::parse_policy(options.is_instant() ? "off" : "always"));
    const bool is_trained = mode_ == Mode::kTraining;
    const offload::WeightFacts facts = {.is_trained = is_trained, .is_resident = can_reside || !is_trained};
    for (const auto& item : block_.block->named_modules("", false)) {
      auto* layer = dynamic_cast<nn::ProductLayer*>(item.value().get());
      if (layer == nullptr) continue;
      const offload::ProductGeometry geometry{.in = layer->weight.size(1), .out = layer->weight.size(0)};
      products_.push_back(std::make_shared<offload::BilinearProduct>(*session_, item.key(), geometry, facts));
      layer->attach(products_.back());
    }
  }

  void update() {
    optimiser_->step(0, 1);
    for (const auto& product : products_)
      if (product->parameter()->gradient_squared_norm())
        product->parameter()->step({.step = steps_, .learning_rate = 0, .momentum = 0.9, .weight_decay = 5e-4});
    for (Tensor& parameter : block_.block->parameters()) parameter.mutable_grad().reset();
  }

  Block& block_;
  Mode mode_;
  std::unique_ptr<offload::Session> session_;  // null: local
  std::vector<std::shared_ptr<offload::BilinearProduct>> products_;
  std::unique_ptr<train::TeeOptimiser> optimiser_;
  uint64_t steps_ = 0;
};

void expect_near(const std::string& what, const Tensor& got, const Tensor& expected) {
  if (!expected.defined()) return;
  const double error = ((got - expected).norm() / expected.norm()).item<double>();
  if (!(error < 1e-3))
    throw RunError(fmt::format("width: {} differs from local's by {:.1e}, expected less than 1e-3", what, error));
}

/// CPU seconds of this process for each step.
std::vector<double> time_steps(const WidthOptions& options, Run& run) {
  std::vector<double> seconds;
  for (int i = 0; i < options.warm_up + options.steps; ++i) {
    const double begin = cpu_seconds();
    run.step();
    if (i >= options.warm_up) seconds.push_back(cpu_seconds() - begin);
  }
  return seconds;
}

/// CPU milliseconds a sample by setting, `local` first, over all rounds.
std::map<std::string, double> measure(const WidthOptions& options, Block& block, Mode mode, const std::string& uri) {
  std::map<std::string, std::vector<double>> seconds;
  StepResults expected;
  std::vector<std::string> settings = {"local"};
  settings.insert(settings.end(), options.settings.begin(), options.settings.end());
  for (int round = 0; round < options.rounds; ++round)
    for (const std::string& setting : settings) {
      Run run(options, block, setting, mode, uri);
      if (round == 0 && !options.is_instant()) {
        const StepResults results = run.step();
        if (setting == "local") expected = results;
        expect_near(setting + "'s output", results.y, expected.y);
        expect_near(setting + "'s gradient", results.dx, expected.dx);
      }
      const std::vector<double> some = time_steps(options, run);
      seconds[setting].insert(seconds[setting].end(), some.begin(), some.end());
    }
  std::map<std::string, double> milliseconds;
  for (const auto& [setting, each] : seconds)
    milliseconds[setting] = 1e3 * median(each) / static_cast<double>(options.batch);
  return milliseconds;
}

void print_head(const WidthOptions& options) {
  observe::print(
      "TEE CPU ms a sample of one encoder block ({} samples of {} tokens, {} thread{}), and local over it.\n",
      options.batch, options.tokens, options.threads, options.threads == 1 ? "" : "s");
  observe::print("{}\n\n",
                 options.is_instant()
                     ? "Worker: instant, answers zeros. Integrity: off. Results are wrong, and are not compared."
                     : "Worker: computes. Integrity: always. Results agree with local's within 1e-3.");
  std::string names = "| width | pass | local |", rule = "|---|---|---|";
  for (const std::string& setting : options.settings) {
    names += fmt::format(" {} | |", setting);
    rule += "---|---|";
  }
  observe::print("{}\n{}\n", names, rule);
  observe::flush_output();
}

void print_row(const WidthOptions& options, int64_t width, const std::string& mode,
               const std::map<std::string, double>& milliseconds) {
  const double local = milliseconds.at("local");
  std::string row = fmt::format("| {} | {} | {:.2f} |", width, mode, local);
  for (const std::string& setting : options.settings)
    row += fmt::format(" {:.2f} | {:.1f} |", milliseconds.at(setting), local / milliseconds.at(setting));
  observe::print("{}\n", row);
  observe::flush_output();
}

void check_among(const std::string& flag, const std::vector<std::string>& given,
                 const std::vector<std::string>& known) {
  for (const std::string& name : given)
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw InputError(fmt::format("width: {}: got \"{}\", expected one of {}", flag, name, fmt::join(known, ", ")));
}

WidthOptions parse(int argc, char** argv) {
  WidthOptions options;
  const auto whole = [](int64_t low, int64_t high) { return apps::Number::whole(low, high); };
  CLI::App app("How much CPU time of the TEE one encoder block takes, local over Tempo, at several widths",
               "tempo-bench width");
  app.add_option("--width", options.widths, "widths, multiples of 64, separated by commas")
      ->delimiter(',')
      ->check(whole(kHeadWidth, 1 << 14));
  app.add_option("--mode", options.modes, "training, frozen, inference, separated by commas")->delimiter(',');
  app.add_option("--setting", options.settings, "permuted, rotated, rows-only, separated by commas")->delimiter(',');
  app.add_option("--batch-size", options.batch, "samples")->check(whole(1, 1 << 20));
  app.add_option("--tokens", options.tokens, "tokens of a sample")->check(whole(1, 1 << 20));
  app.add_option("--threads", options.threads, "of the master")->check(whole(1, 1024));
  app.add_option("--steps", options.steps, "steps that are timed, of each setting and round")->check(whole(1, 1000));
  app.add_option("--warm-up", options.warm_up, "steps before them")->check(whole(0, 1000));
  app.add_option("--rounds", options.rounds, "rounds over the settings")->check(whole(1, 1000));
  app.add_option("--decoys", options.decoys, "energy of decoys, under keys that mix rows")
      ->check(apps::Number::real(0, 100));
  app.add_option("--worker", options.worker, "computing, or instant: one that answers at once with zeros");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    std::exit(app.exit(help));
  } catch (const CLI::ParseError& error) {
    throw InputError(fmt::format("width: {}", error.what()));
  }
  std::vector<std::string> modes;
  for (const auto& [name, mode] : kModes) modes.push_back(name);
  check_among("--mode", options.modes, modes);
  check_among("--setting", options.settings, kSettings);
  check_among("--worker", {options.worker}, {"computing", "instant"});
  for (const int64_t width : options.widths)
    if (width % kHeadWidth != 0)
      throw InputError(fmt::format("width: --width: got {}, expected a multiple of {}", width, kHeadWidth));
  return options;
}

}  // namespace

int run_width(int argc, char** argv) {
  const WidthOptions options = parse(argc, argv);
  const obfuscation::RegisteredProtection rows_only(
      "rows-only", [](const BlindingOptions& blinding) { return std::make_unique<RowsOnly>(blinding); });
  at::set_num_threads(options.threads);
  const TemporaryFolder folder;
  const fs::path apps = fs::read_symlink("/proc/self/exe").parent_path();
  const std::string uri = fmt::format("shm://tempo-bench-{}", getpid());
  std::vector<std::string> arguments = {"--listen", uri};
  if (options.is_instant()) arguments.insert(arguments.begin(), "instant-worker");
  Child worker(apps / (options.is_instant() ? "tempo-bench" : "tempo-worker"), arguments, folder.path() / "worker");
  worker.next_line();
  print_head(options);
  for (const int64_t width : options.widths) {
    Block block(options, width);
    for (const auto& [name, mode] : kModes)
      if (std::count(options.modes.begin(), options.modes.end(), name) > 0)
        print_row(options, width, name, measure(options, block, mode, uri));
  }
  return 0;
}

}  // namespace tempo::bench
