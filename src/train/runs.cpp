// The functions of include/tempo/run.h: configuration in, run directory out.
#include "tempo/run.h"

#include <fmt/format.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>

#include "base/cpu_budget.h"
#include "base/file.h"
#include "base/folder_lock.h"
#include "base/path.h"
#include "nn/layers.h"
#include "obfuscation/protection.h"
#include "observe/standard_streams.h"
#include "seal/key_file.h"
#include "seal/sealed_archive.h"
#include "tempo/error.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/data/cifar.h"
#include "train/data/source.h"
#include "train/data/synthetic.h"
#include "train/deployment.h"
#include "train/machine_rates.h"
#include "train/trainer.h"
#include "train/worker_view.h"

namespace tempo {
namespace {

using namespace train;  // NOLINT: this file is the bridge between the two namespaces
namespace fs = std::filesystem;

constexpr uint64_t kSyntheticSeed = 1;  // generated images are no secret

/// A sealed archive if there is a key for it, else a folder. What is named with a key must be sealed: whoever can put a
/// plain folder in the archive's place would choose what is trained on.
/// @param key null: the key file `key_file`, "" if there is none.
std::unique_ptr<DataSource> open_data(const fs::path& path, const SecretKey* key, const std::string& key_file,
                                      const std::string& archive_id) {
  const bool is_sealed = seal::looks_like_archive(path);
  if (key == nullptr && key_file.empty()) {
    if (is_sealed)
      throw InputError(fmt::format("{}: is a sealed archive, expected its key: --data-key", path.string()));
    return open_folder(path);
  }
  if (!is_sealed) throw InputError(fmt::format("{}: got a key for it, expected a sealed archive", path.string()));
  return key != nullptr ? open_sealed(path, *key, archive_id) : open_sealed(path, seal::load_key(key_file), archive_id);
}

/// @param archive_id of the archive that it must be; "": any.
DataSplits load_data(const RunConfig& config, const SecretKey* key, const std::string& archive_id = "") {
  if (config.data == "synthetic" && key == nullptr && config.data_key.empty())
    return make_synthetic(config.train_size, config.test_size, kSyntheticSeed, config.image_size);
  return load_cifar10(*open_data(config.data, key, config.data_key, archive_id));
}

fs::path key_path(const std::string& given) { return given.empty() ? seal::default_key_path() : fs::path(given); }

/// The user's own key, made at first use.
SecretKey own_sealing_key(bool quiet) {
  bool created = false;
  SecretKey key = seal::load_or_create_key(seal::default_key_path(), &created);
  if (created && !quiet)
    observe::note("made the sealing key {}; checkpoints cannot be opened without it\n",
                  seal::default_key_path().string());
  return key;
}

nn::ModelOptions model_options(const RunConfig& config, const Dataset& dataset) {
  if (dataset.height != dataset.width)
    throw InputError(fmt::format("data: images of {}x{}, expected square ones", dataset.height, dataset.width));
  return {.name = config.model,
          .classes = static_cast<int64_t>(dataset.class_names.size()),
          .image_side = dataset.height,
          .image_channels = dataset.channels};
}

void refuse_occupied(const fs::path& out) {
  for (const char* name : {"checkpoint.tempo", "summary.json", "metrics.jsonl"}) {
    if (!is_there(out / name)) continue;
    const std::string instead = is_there(checkpoint_path(out))
                                    ? fmt::format("or --resume {}", out.string())
                                    : "which this is once what that run left is removed: it ended before its first "
                                      "checkpoint, and cannot be resumed";
    throw InputError(
        fmt::format("{}: already holds a run ({}), expected an empty folder, {}", out.string(), name, instead));
  }
}

void refuse_without_checkpoint(const fs::path& run) {
  if (is_there(run) && !is_there(checkpoint_path(run)))
    throw InputError(fmt::format(
        "{}: has no checkpoint.tempo, so there is nothing to go on from; start anew with tempo train --out, and have "
        "checkpoints earlier with --checkpoint-interval",
        run.string()));
}

/// The folders of one run, kept from all other runs from construction to destruction: the one that it goes on from, as
/// soon as there is something to read, and the one that it writes, as soon as that exists.
class RunFolders {
 public:
  /// @throws InputError if another run has one of them, or an old run lies where a new one is to go.
  explicit RunFolders(const RunConfig& config) : out_(config.out) {
    if (!config.resume.empty()) resumed_.emplace(config.resume);
    std::error_code error;
    is_one_ = resumed_ && fs::equivalent(config.resume, out_, error);
    if (!is_one_ && is_there(out_)) claim();
  }
  /// Makes the folder that is written, if it is missing, and notes the settings there.
  void begin(const RunConfig& config) {
    if (!is_one_ && !written_) {
      make_folders(out_);
      claim();
    }
    AtomicFile file(out_ / "config.toml");
    file.write(to_toml(config));
    file.commit();
  }

 private:
  void claim() {
    written_.emplace(out_);
    refuse_occupied(out_);
  }

  const fs::path out_;
  bool is_one_ = false;
  std::optional<FolderLock> resumed_, written_;
};

/// Statistics of a single image are no statistics; LibTorch's own message would come from deep inside a step.
void refuse_single_images(const nn::Model& model, int64_t batch_size) {
  if (batch_size > 1) return;
  for (const auto& module : model.modules())
    if (dynamic_cast<const nn::BatchNorm2dImpl*>(module.get()) != nullptr)
      throw InputError("batch-size: got 1 for a model with batch norm, expected at least 2");
}

void check_matches(const Checkpoint& checkpoint, const nn::ModelOptions& options, const std::string& source) {
  const auto describe_model = [](const nn::ModelOptions& o) {
    return fmt::format("{} for {} classes of {}x{} images", o.name, o.classes, o.image_side, o.image_side);
  };
  if (describe_model(checkpoint.model) != describe_model(options))
    throw InputError(
        fmt::format("{}: holds {}, expected {}", source, describe_model(checkpoint.model), describe_model(options)));
}

/// The TEE's threads, on CPUs of their own if their number was given; workers of this process need the others.
class RunThreads {
 public:
  explicit RunThreads(const RunConfig& config) {
    if (config.tee_threads > 0 && config.workers.find("inprocess:") == std::string::npos)
      budget_.emplace(config.tee_threads);
    at::set_num_threads(tee_threads(config));
  }

 private:
  std::optional<CpuBudget> budget_;
};

/// One sentence where workers can read what they are sent under these settings, else "".
std::string unprotected_note(const RunConfig& config) {
  if (config.workers == "local" || obfuscation::protects(config.blinding)) return "";
  return fmt::format("warning: protection={} protects nobody: a worker that tries recovers weights and images\n",
                     config.blinding.protection);
}

void warn_of_known_weights(const RunConfig& config, bool quiet) {
  if (config.workers == "local" || quiet) return;
  if (config.init.empty() && config.seed)
    observe::note(
        "note: --seed makes the initial weights known to whoever knows the seed; leave it out to keep them "
        "secret\n");
  if (config.init.empty()) return;
  observe::note(
      "warning: --init starts from given weights. If they are public, blinding does not hide what is trained from "
      "them: a worker that knows the start can solve for the keys.\n");
}

/// Records of a plain file, or of a sealed archive's only file, or else of its test images.
void append_images(const fs::path& images, const std::string& data_key, Dataset& dataset) {
  if (data_key.empty() && !seal::looks_like_archive(images))
    return append_cifar10_records(read_file_or_pipe(images, kMaxCifar10FileBytes), images.string(), dataset);
  const auto source = open_data(images, nullptr, data_key, "");
  const auto files = source->files();
  append_cifar10_file(*source, files.size() == 1 ? files.front() : kCifar10TestFile, dataset);
}

/// The configuration under which a checkpoint was made: sealed with it, so nobody can weaken it from outside.
RunConfig sealed_config(const Checkpoint& checkpoint, const std::string& source) {
  RunConfig config;
  config.rates = kBuiltInRates;  // of runs that are older than other rates
  apply_settings(config, parse_settings(checkpoint.config, source), source + ": ");
  return config;
}

/// A checkpoint's model, wholly in the TEE, for evaluation and export.
struct LoadedRun {
  RunConfig config;
  Checkpoint checkpoint;
  Deployment deployment;
};

LoadedRun load_run(const fs::path& run, const std::string& key) {
  LoadedRun loaded;
  const fs::path file = checkpoint_path(run);
  loaded.checkpoint = load_checkpoint(file, seal::load_key(key_path(key)));
  loaded.config = sealed_config(loaded.checkpoint, file.string());
  loaded.config.workers = "local";
  resolve(loaded.config);
  at::set_num_threads(tee_threads(loaded.config));
  loaded.deployment = deploy(loaded.config, loaded.checkpoint.model, std::nullopt);
  restore_model(*loaded.deployment.model, loaded.checkpoint, file.string());
  loaded.deployment.model->eval();
  return loaded;
}

}  // namespace

RunSummary run_training(const RunConfig& given, const RunHooks& hooks) {
  RunConfig config = given;
  resolve(config);
  const bool is_kept = hooks.keeper != nullptr;
  if (config.out.empty() && !is_kept) throw InputError("out: got nothing, expected a run directory to make");
  const auto place = is_kept ? hooks.keeper->resumed() : std::nullopt;
  const bool resuming = is_kept ? place.has_value() : !config.resume.empty();
  std::optional<RunFolders> folders;
  if (!is_kept) folders.emplace(config);

  const RunThreads threads(config);
  // A key that is named or needed now must be there; the user's own is made once nothing else can be refused.
  std::optional<SecretKey> sealing_key;
  if (is_kept)
    sealing_key = place ? place->key->duplicate() : SecretKey();
  else if (hooks.sealing_key != nullptr)
    sealing_key = hooks.sealing_key->duplicate();
  else if (resuming || !config.key.empty())
    sealing_key = seal::load_key(key_path(config.key));
  std::optional<Checkpoint> checkpoint;
  const fs::path resumed_file = place ? place->file : checkpoint_path(config.resume);
  if (resuming && !is_kept) refuse_without_checkpoint(config.resume);
  if (resuming) checkpoint = load_checkpoint(resumed_file, *sealing_key);

  // A run keeps the rates that it was placed by.
  if (checkpoint && config.rates == kMeasuredRates)
    config.rates = sealed_config(*checkpoint, resumed_file.string()).rates;

  const DataSplits data = load_data(config, hooks.data_key, hooks.archive_id);
  const nn::ModelOptions options = model_options(config, data.train);
  SecretKey root = checkpoint    ? checkpoint->root.duplicate()
                   : config.seed ? key_from_seed_insecure(*config.seed)
                                 : SecretKey::random();
  // Keys are never a function of the seed, and never serve two sets of operands: they go on only from a clean stop,
  // once, and under settings that give the same operands.
  const bool same_keys =
      !is_kept && checkpoint && checkpoint->numbers.contains(kCleanStop) && checkpoint->numbers.at(kCleanStop) == 1 &&
      operand_settings(sealed_config(*checkpoint, resumed_file.string())) == operand_settings(config);
  SecretKey master = same_keys ? checkpoint->master.duplicate() : SecretKey::random();
  if (checkpoint) check_matches(*checkpoint, options, resumed_file.string());
  // Whoever has a keeper may trust no file outside it.
  if (offload_policy(config) == nn::OffloadPolicy::kAuto)
    settle_rates(config, is_kept ? fs::path() : default_rates_path());

  Deployment deployment = deploy(config, options, master.duplicate());
  refuse_single_images(*deployment.model, config.batch_size);
  if (!hooks.quiet) observe::note("{}", unprotected_note(config));
  if (!checkpoint) warn_of_known_weights(config, hooks.quiet);
  if (checkpoint) {
    restore_model(*deployment.model, *checkpoint, resumed_file.string());
  } else if (!config.init.empty()) {
    load_weights(*deployment.model, read_plain_safetensors(config.init), config.init);
  } else {
    Csprng random(derive_key(root, "initial-weights"));
    deployment.model->initialise(random);
  }
  if (!sealing_key) sealing_key = own_sealing_key(hooks.quiet);
  Trainer trainer(config, deployment, data, std::move(root), std::move(master), sealing_key->duplicate(), hooks.keeper);
  if (checkpoint) trainer.restore(*checkpoint, same_keys);
  if (hooks.begins) hooks.begins();
  if (folders) folders->begin(config);
  if (same_keys) {
    checkpoint->numbers[kCleanStop] = 0;
    save_checkpoint(*checkpoint, resumed_file, *sealing_key);
  }
  return trainer.run(hooks);
}

RunConfig resumed_config(const fs::path& run, const SecretKey& key) {
  const fs::path file = checkpoint_path(run);
  refuse_without_checkpoint(run);
  RunConfig config = sealed_config(load_checkpoint(file, key), file.string());
  config.resume = config.out = run.string();
  config.key = "";  // never from the run directory: whoever can write there could bring a checkpoint and its key
  return config;
}

RunConfig resumed_config(const fs::path& run, const std::string& key) {
  RunConfig config = resumed_config(run, seal::load_key(key_path(key)));
  config.key = key;
  return config;
}

Evaluation run_evaluation(const fs::path& run, const std::string& data, const std::string& key,
                          const std::string& data_key) {
  LoadedRun loaded = load_run(run, key);
  if (!data.empty()) loaded.config.data = data;
  if (!data.empty() || !data_key.empty()) loaded.config.data_key = data_key;
  const DataSplits splits = load_data(loaded.config, nullptr);
  check_matches(loaded.checkpoint, model_options(loaded.config, splits.test), checkpoint_path(run).string());
  return evaluate_model(loaded.deployment, splits.test, loaded.config.batch_size, 0);
}

std::vector<Prediction> run_prediction(const fs::path& run, const fs::path& images, const std::string& key,
                                       const std::string& data_key) {
  LoadedRun loaded = load_run(run, key);
  Dataset dataset = empty_cifar10(images.string());
  append_images(images, data_key, dataset);
  check_matches(loaded.checkpoint, model_options(loaded.config, dataset), checkpoint_path(run).string());
  std::vector<std::string> names;
  std::istringstream lines(loaded.checkpoint.class_names);
  for (std::string name; std::getline(lines, name);) names.push_back(name);

  const torch::NoGradGuard no_grad;
  const Batches batches(dataset, loaded.config.batch_size);
  std::vector<Prediction> predictions;
  for (int64_t i = 0; i < batches.count(); ++i) {
    const BatchTensors batch = make_batch(batches, i, dataset, loaded.deployment.threads());
    const torch::Tensor probabilities = torch::softmax(loaded.deployment.model->forward(batch.images), 1);
    const auto [best, index] = probabilities.max(1);
    for (int64_t row = 0; row < best.numel(); ++row) {
      const auto label = static_cast<size_t>(index[row].item<int64_t>());
      predictions.push_back({.image = static_cast<int64_t>(predictions.size()),
                             .label = label < names.size() ? names[label] : fmt::format("class {}", label),
                             .probability = best[row].item<double>()});
    }
  }
  return predictions;
}

WorkerView run_worker_view(const fs::path& run, int64_t image, const std::string& key, const std::string& data_key) {
  LoadedRun loaded = load_run(run, key);
  if (!data_key.empty()) loaded.config.data_key = data_key;
  const DataSplits splits = load_data(loaded.config, nullptr);
  check_matches(loaded.checkpoint, model_options(loaded.config, splits.test), checkpoint_path(run).string());
  return worker_view(loaded.config, loaded.checkpoint.model, splits.test, image,
                     [&](nn::Model& model) { restore_model(model, loaded.checkpoint, checkpoint_path(run).string()); });
}

std::string plan_run(const RunConfig& given, const PlanRates& rates) {
  RunConfig config = given;
  resolve(config);
  settle_rates(config, default_rates_path());
  at::set_num_threads(tee_threads(config));
  nn::MachineModel machine = machine_model(config);
  if (rates.tee_gflops > 0) machine.tee.flops_per_second = machine.tee.conv_flops_per_second = rates.tee_gflops * 1e9;
  if (rates.worker_gflops > 0) machine.worker_flops_per_second = rates.worker_gflops * 1e9;
  if (rates.link_gbytes_per_second > 0) machine.link_bytes_per_second = rates.link_gbytes_per_second * 1e9;
  const nn::ModelOptions options{.name = config.model, .classes = 10, .image_side = config.image_size};
  const auto model = nn::make_model(options);
  return to_table(nn::make_plan(*model, options, {config.batch_size, config.blinding, offload_policy(config), machine}),
                  machine) +
         fmt::format("the same as a setting: --rates {}\n", config.rates) + unprotected_note(config);
}

void export_run(const fs::path& run, const fs::path& file, const std::string& key) {
  const LoadedRun loaded = load_run(run, key);
  const nn::ModelOptions& model = loaded.checkpoint.model;
  write_plain_safetensors(
      state_of(*loaded.deployment.model),
      {{"format", "pt"}, {"model", model.name}, {"steps", fmt::format("{}", loaded.checkpoint.step)}}, file);
}

}  // namespace tempo
