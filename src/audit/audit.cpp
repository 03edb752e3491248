#include "audit/audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <fstream>
#include <optional>
#include <set>
#include <thread>
#include <tuple>

#include "audit/algebra/matching.h"
#include "audit/attack.h"
#include "audit/attacks/pooling.h"
#include "audit/information.h"
#include "audit/tampering.h"
#include "audit/theft/stolen_network.h"
#include "audit/view_files.h"
#include "base/path.h"
#include "tempo/error.h"
#include "train/checkpoint.h"
#include "train/data/cifar.h"
#include "train/data/synthetic.h"

namespace tempo::audit {
namespace {

// Attacks whose result depends on what the attacker knows of the start; the others need not run twice.
const std::set<int> kUsesKnowledge = {1, 2, 3, 4, 5, 7, 13, 14};
constexpr int kSeparation = 12;
constexpr int kAlignment = 5;
constexpr int kNetworkTheft = 20;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string machine_name() {
  std::ifstream info("/proc/cpuinfo");
  std::string line, name = "unknown CPU";
  while (std::getline(info, line))
    if (line.starts_with("model name")) {
      name = line.substr(line.find(':') + 2);
      break;
    }
  return fmt::format("{}, {} cores", name, std::thread::hardware_concurrency());
}

/// Runs `work(i)` for i in 0..count-1 on all cores.
template <typename Work>
void for_each_parallel(size_t count, const Work& work) {
  std::atomic<size_t> next{0};
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
  const auto run = [&] {
    for (size_t i = next++; i < count && !failed; i = next++) {
      try {
        work(i);
      } catch (...) {
        if (!failed.exchange(true)) failure = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < std::max(1U, std::thread::hardware_concurrency()); ++t) threads.emplace_back(run);
  }
  if (failure) std::rethrow_exception(failure);
}

/// Everything that the settings of one audit share.
struct Laboratory {
  const AuditOptions& options;
  train::DataSplits victim_data;  ///< what the victim trains on, and the test images
  train::Dataset others;          ///< the attacker's own images
  nn::ModelOptions model;
  State victim, reference;
  Operand others_in_grey;  ///< some of `others`
  SecretKey root;          ///< of the recorded steps: the same images under every setting
  bool steals = false;     ///< whether surrogates are wanted, and the victim is worth stealing
};

train::DataSplits load_data(const AuditOptions& options) {
  constexpr uint64_t kSyntheticSeed = 1;
  if (options.data != "synthetic") return train::load_cifar10(options.data);
  return train::make_synthetic(options.synthetic_images, options.synthetic_images / 4, kSyntheticSeed,
                               options.synthetic_side);
}

State load_or_train(const AuditOptions& options, const std::string& file, const train::DataSplits& data,
                    const char* who) {
  if (!file.empty()) return train::read_plain_safetensors(file);
  options.progress(fmt::format("training the {}: {} steps", who, options.victim.steps));
  return train_plain(options.victim, data, true);
}

Laboratory make_laboratory(const AuditOptions& options) {
  const train::DataSplits all = load_data(options);
  const int64_t victims =
      all.train.size() - static_cast<int64_t>(static_cast<double>(all.train.size()) * options.attackers_share);
  Laboratory lab{.options = options,
                 .victim_data = {slice(all.train, 0, victims), all.test},
                 .others = slice(all.train, victims, all.train.size()),
                 .model = model_options(options.victim, all.train),
                 .victim = {},
                 .reference = {},
                 .others_in_grey = {},
                 .root = SecretKey::random()};
  constexpr int64_t kPictures = 500;
  lab.others_in_grey = grey_levels(slice(lab.others, 0, std::min(kPictures, lab.others.size())));
  lab.victim = load_or_train(options, options.victim_file, lab.victim_data, "victim");
  lab.reference = load_or_train(options, options.reference_file, {lab.others, all.test}, "attacker's own model");
  if (!options.save_weights.empty()) {
    make_folders(options.save_weights);
    train::write_plain_safetensors(lab.victim, {}, options.save_weights / "victim.safetensors");
    train::write_plain_safetensors(lab.reference, {}, options.save_weights / "reference.safetensors");
  }
  return lab;
}

/// Layers to attack when none are named: two neighbours at the front, in the middle and at the back.
std::vector<std::string> attacked_layers(const AuditOptions& options, const std::vector<std::string>& layers) {
  if (!options.layers.empty()) return options.layers;
  if (layers.size() <= 6) return layers;
  const size_t middle = layers.size() / 2, last = layers.size() - 1;
  return {layers[0], layers[1], layers[middle], layers[middle + 1], layers[last - 1], layers[last]};
}

/// The part of a layer's name up to its last dot: its block.
std::string block_of(const std::string& layer) { return layer.substr(0, layer.rfind('.')); }

/// Which layer reads which, by the names of residual networks: conv2 reads what conv1 of its block wrote; the first
/// layer of the next block reads the sum of a basic block's conv2 and of what the block read, unless that goes through
/// a projection.
void connect_layers(std::vector<LayerCase>& cases) {
  for (size_t i = 0; i + 1 < cases.size(); ++i) {
    LayerCase &here = cases[i], &there = cases[i + 1];
    const std::string block = block_of(here.layer);
    if (here.layer.find(".conv") == std::string::npos) continue;
    std::string within = here.layer;
    ++within.back();
    const bool ends_basic_block = here.layer == block + ".conv2" && i > 0 && cases[i - 1].layer == block + ".conv1" &&
                                  there.layer == block_of(there.layer) + ".conv1";
    if (there.layer != within && !ends_basic_block) continue;
    here.next = &there;
    there.previous = &here;
    here.adds_shortcut = ends_basic_block;
  }
}

FindingResult to_result(const Finding& finding, const std::string& setting, const char* start, const LayerCase& layer,
                        double seconds) {
  return {.setting = setting,
          .start = start,
          .layer = layer.layer,
          .attack = finding.attack,
          .target = finding.target,
          .measure = finding.measure,
          .applicable = finding.applicable,
          .score = std::clamp(finding.score, 0.0, 1.0),  // a cosine can round to a little above 1
          .chance = std::clamp(finding.chance, 0.0, 1.0),
          .noise = finding.noise,
          .beats_chance = finding.beats_chance(),
          .counterfactual = layer.counterfactual,
          .given_truth = finding.given_truth,
          .note = finding.note,
          .steps_to_win = finding.steps_to_win,
          .seconds = seconds};
}

/// Attacks of one setting, on one layer after the other or on several at once.
class SettingAudit {
 public:
  SettingAudit(Laboratory& lab, const Setting& setting, AuditResults& results)
      : lab_(lab), setting_(setting), results_(results) {}

  void run() {
    record();
    measure_cost();
    attack_layers();
    measure_information();
    build_surrogates();
  }

 private:
  void record() {
    const AuditOptions& options = lab_.options;
    options.progress(fmt::format("{}: recording {} steps", setting_.name, options.recording.steps));
    run_ = record_run(options.victim, lab_.victim, lab_.victim_data, setting_, options.recording, lab_.root);
    connect_layers(run_.cases);
    for (LayerCase& layer : run_.cases) layer.patience = options.patience;
    inputs_by_reference_ =
        layer_inputs(options.victim, lab_.reference, lab_.victim_data, lab_.root, run_.layers, run_.input_geometry);
    inputs_by_start_ =
        layer_inputs(options.victim, lab_.victim, lab_.victim_data, lab_.root, run_.layers, run_.input_geometry);
    know_first_layer();
    if (!options.save_views.empty()) write_recording(run_, options.save_views / setting_.name);
    attacked_ = attacked_layers(options, run_.layers);
    results_.victim.layers = attacked_;
    for (const std::string& name : attacked_)
      if (std::find(run_.layers.begin(), run_.layers.end(), name) == run_.layers.end())
        throw InputError(fmt::format("layers: got \"{}\", expected offloaded layers of the model, e.g. {}", name,
                                     run_.layers.front()));
  }

  void know_first_layer() {
    LayerCase& first = run_.cases.front();
    if (!first.reads_first_layer || first.view.front().x_products.size() == 0) return;
    std::tie(first.knowledge.first_layer_products, first.knowledge.first_layer_rows) =
        input_products(lab_.options.victim, lab_.victim, lab_.others, first.layer, run_.input_geometry.front());
  }

  void measure_cost() {
    const RunSummary summary =
        measure_run(lab_.options.victim, lab_.victim, lab_.victim_data, setting_, lab_.options.cost_steps, false);
    const double samples = static_cast<double>(lab_.options.cost_steps * lab_.options.victim.batch_size);
    results_.settings.push_back(
        {.name = setting_.name,
         .flags = flags_of(setting_),
         .is_default = setting_.name == lab_.options.default_setting,
         .tee_cpu_seconds_per_sample = summary.tee_cpu_seconds_per_sample,
         .blind_seconds_per_sample = (summary.key_seconds + summary.blind_seconds + summary.unblind_seconds) / samples,
         .bytes_per_sample = summary.bytes_to_workers_per_sample + summary.bytes_from_workers_per_sample});
  }

  void know(LayerCase& layer, bool public_start) {
    if (layer.counterfactual) return;
    const auto index = static_cast<size_t>(&layer - run_.cases.data());
    layer.knowledge.weight = weight_operand(public_start ? lab_.victim : lab_.reference, layer.layer);
    layer.knowledge.activations = public_start ? inputs_by_start_[index] : inputs_by_reference_[index];
    if (layer.reads_first_layer) layer.knowledge.images = lab_.others_in_grey;
  }

  /// Runs an attack; findings go to the results, a recovered weight to the surrogates.
  std::vector<Finding> attack(const Attack& one, const LayerCase& layer, const char* start, bool keep_findings) {
    Random random(static_cast<uint64_t>(one.number) * 1000003 + std::hash<std::string>{}(layer.layer));
    const auto began = std::chrono::steady_clock::now();
    std::vector<Finding> findings = one.run(layer, random);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (!keep_findings) return findings;
    const std::lock_guard lock(mutex_);
    // What does not depend on the attacker's knowledge holds for both starts.
    const bool holds_for_both = !kUsesKnowledge.contains(one.number) && !layer.counterfactual;
    for (const Finding& finding : findings) {
      results_.findings.push_back(to_result(finding, setting_.name, start, layer, seconds));
      if (holds_for_both) results_.findings.push_back(to_result(finding, setting_.name, "public", layer, 0));
    }
    return findings;
  }

  [[nodiscard]] bool is_wanted(int number) const {
    const auto& wanted = lab_.options.attacks;
    return wanted.empty() || std::find(wanted.begin(), wanted.end(), number) != wanted.end();
  }

  void attack_layers() {
    struct Job {
      const Attack* attack;
      const LayerCase* layer;
    };
    const LayerCase last = last_layer_case(lab_.options.victim, lab_.victim, lab_.victim_data, setting_, lab_.root);
    for (const bool public_start : {false, true}) {
      const char* start = public_start ? "public" : "secret";
      lab_.options.progress(fmt::format("{}: attacks, {} start", setting_.name, start));
      std::vector<Job> jobs;
      for (const Attack& one : attacks()) {
        if (!is_wanted(one.number)) continue;
        for (LayerCase& layer : run_.cases) {
          if (std::find(attacked_.begin(), attacked_.end(), layer.layer) == attacked_.end()) continue;
          know(layer, public_start);
          if (!public_start || kUsesKnowledge.contains(one.number)) jobs.push_back({&one, &layer});
        }
        if (!public_start) jobs.push_back({&one, &last});
      }
      for_each_parallel(jobs.size(), [&](size_t i) { attack(*jobs[i].attack, *jobs[i].layer, start, true); });
    }
    if (is_wanted(kSeparation)) pool_steps();
  }

  /// How far separation gets with more and more steps, which is a curve and not a finding.
  void pool_steps() {
    std::vector<const LayerCase*> layers;
    for (const LayerCase& layer : run_.cases)
      if (std::find(attacked_.begin(), attacked_.end(), layer.layer) != attacked_.end()) layers.push_back(&layer);
    std::vector<PoolingPoints> points(layers.size());
    for_each_parallel(layers.size(), [&](size_t i) {
      Random random(1);
      points[i] = pool_channel_directions(*layers[i], random);
    });
    for (size_t i = 0; i < layers.size(); ++i)
      results_.pooling.push_back({.setting = setting_.name,
                                  .layer = layers[i]->layer,
                                  .steps = points[i].steps,
                                  .score = points[i].score,
                                  .chance = points[i].chance});
  }

  void measure_information() {
    for (const LayerCase& layer : run_.cases) {
      if (std::find(attacked_.begin(), attacked_.end(), layer.layer) == attacked_.end()) continue;
      const StepView& seen = layer.view.front();
      results_.information.push_back({.setting = setting_.name,
                                      .layer = layer.layer,
                                      .left_key_bits = row_key_bits(setting_.blinding, seen.x.rows),
                                      .inner_key_bits = channel_key_bits(setting_.blinding, layer.in()),
                                      .right_key_bits = channel_key_bits(setting_.blinding, layer.out()),
                                      .mutual_information_bits = mutual_information_bits(seen.x, layer.truth.front().x),
                                      .rows = static_cast<double>(seen.x.rows),
                                      .rows_mixed = layer.truth.front().rows_mixed,
                                      .channels_mixed = effective_count(layer.truth.front().right)});
    }
  }

  /// The best estimate of every layer's weight; an oracle says which is best.
  std::map<std::string, Operand> recovered_weights(int attack_number, bool public_start) {
    std::map<std::string, Operand> best;
    for (LayerCase& layer : run_.cases) know(layer, public_start);
    const auto found = std::find_if(attacks().begin(), attacks().end(),
                                    [&](const Attack& one) { return one.number == attack_number; });
    std::mutex mutex;
    for_each_parallel(run_.cases.size(), [&](size_t i) {
      const LayerCase& layer = run_.cases[i];
      Operand chosen = layer.view.front().w;  // as it is
      double cosine = absolute_cosine(chosen, layer.truth.front().w);
      for (Finding& finding : attack(*found, layer, "", false)) {
        const double other = absolute_cosine(finding.recovered_weight, layer.truth.front().w);
        if (other <= cosine) continue;
        cosine = other;
        chosen = std::move(finding.recovered_weight);
      }
      const std::lock_guard lock(mutex);
      best[layer.layer] = std::move(chosen);
    });
    return best;
  }

  void build_surrogates() {
    const auto& wanted = lab_.options.steal_settings;
    if (!lab_.steals) return;
    if (std::find(wanted.begin(), wanted.end(), setting_.name) == wanted.end()) return;
    steal_whole_network();
    if (is_wanted(kSeparation)) steal_from(setting_.name, recovered_weights(kSeparation, false));
    if (is_wanted(kAlignment) && setting_.name == lab_.options.default_setting)
      steal_from(setting_.name + ", public start", recovered_weights(kAlignment, true));
  }

  void steal_whole_network();
  void steal_from(const std::string& name, const std::map<std::string, Operand>& recovered);

  Laboratory& lab_;
  const Setting& setting_;
  AuditResults& results_;
  RecordedRun run_;
  std::vector<Operand> inputs_by_reference_, inputs_by_start_;
  std::vector<std::string> attacked_;
  std::mutex mutex_;
};

/// One surrogate for every budget: `make` takes the target and the budget.
template <typename Make>
void for_all_budgets(const Laboratory& lab, const std::string& name, AuditResults& results, const Make& make) {
  lab.options.progress(fmt::format("surrogates from {}", name));
  const StealTarget target{lab.model, lab.victim, lab.victim_data.train, lab.victim_data.test};
  std::vector<Budget> budgets = standard_budgets(target, lab.others);
  if (budgets.size() > lab.options.budgets) budgets.resize(lab.options.budgets);
  for (const Budget& budget : budgets) results.surrogates.push_back(make(target, budget));
}

void steal_with_all_budgets(const Laboratory& lab, const std::string& name, const State& start, AuditResults& results) {
  for_all_budgets(lab, name, results, [&](const StealTarget& target, const Budget& budget) {
    return steal(target, name, start, budget, lab.options.surrogate);
  });
}

/// Attack 20. Where nothing is recovered there is no network to train: its finding says so.
void SettingAudit::steal_whole_network() {
  if (!is_wanted(kNetworkTheft)) return;
  const auto first =
      std::find_if(run_.cases.begin(), run_.cases.end(), [](const LayerCase& c) { return c.reads_first_layer; });
  if (first == run_.cases.end()) return;
  know(*first, false);
  Random random(kNetworkTheft);
  const auto network = StolenNetwork::from(*first, lab_.victim_data.test, random);
  if (!network) return;
  const std::string name = setting_.name + ", attack 20";
  for_all_budgets(lab_, name, results_, [&](const StealTarget& target, const Budget& budget) {
    return steal_network(target, name, *network, budget, lab_.options.surrogate);
  });
}

void SettingAudit::steal_from(const std::string& name, const std::map<std::string, Operand>& recovered) {
  steal_with_all_budgets(lab_, name, surrogate_start(lab_.model, recovered), results_);
}

void steal_bounds(const Laboratory& lab, AuditResults& results) {
  if (!lab.steals) return;
  steal_with_all_budgets(lab, "white box", lab.victim, results);
  steal_with_all_budgets(lab, "black box", surrogate_start(lab.model, {}), results);
}

void tamper(const Laboratory& lab, AuditResults& results) {
  if (lab.options.tampering_errors.empty()) return;
  lab.options.progress("a worker that adds errors");
  // How images are cut and what is mixed in does not change what an error does: the cheapest way will do.
  Setting cheapest = default_setting();
  cheapest.blinding.conv_tile = 0;
  cheapest.blinding.decoys = 0;
  results.tampering = measure_tampering(lab.options.victim, lab.victim, lab.victim_data, cheapest,
                                        lab.options.tampering_steps, lab.options.tampering_errors);
}

}  // namespace

AuditResults run_audit(const AuditOptions& options) {
  if (options.recording.full_steps < 2 || options.recording.steps < options.recording.full_steps)
    throw InputError("steps: expected at least 2 recorded steps");
  Laboratory lab = make_laboratory(options);
  AuditResults results;
  results.date = utc_now();
  results.machine = machine_name();
  results.victim = {.model = options.victim.model,
                    .data = options.data == "synthetic" ? "generated images" : "CIFAR-10",
                    .train_images = lab.victim_data.train.size(),
                    .test_images = lab.victim_data.test.size(),
                    .steps_trained = options.victim.steps,
                    .batch_size = options.victim.batch_size,
                    .test_accuracy = accuracy_of(lab.model, lab.victim, lab.victim_data.test),
                    .layers = {},
                    .steps_recorded = options.recording.steps};
  lab.steals = !options.steal_settings.empty() && results.victim.test_accuracy >= kLeastVictimAccuracy;
  for (const Setting& setting : options.settings) SettingAudit(lab, setting, results).run();
  steal_bounds(lab, results);
  tamper(lab, results);
  return results;
}

}  // namespace tempo::audit
