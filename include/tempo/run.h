/// Running Tempo from a program: everything the command line can do, as functions.
/// The command line is a thin layer over this header; every field of RunConfig is a flag and a TOML key.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tempo/options.h"

namespace tempo {

class SecretKey;  // base/secret.h

enum class Optimizer { kSgd, kAdamW };
enum class Schedule { kCosine, kConstant };
/// Which products leave the TEE: those that the cost model finds worth it, or all that may (never the first and last).
enum class OffloadChoice { kAuto, kAll };
enum class GradientSum { kMaster, kWorkers };

struct RunConfig {
  std::string model = "resnet20";
  std::string data = "synthetic";  ///< a CIFAR-10 folder, a sealed archive of one, or "synthetic": generated images
  std::string data_key;            ///< key file that opens a sealed `data`; not a secret itself
  std::string out;                 ///< run directory; must not hold another run
  std::string resume;              ///< run directory to continue from
  std::string init;                ///< safetensors file of initial weights; "" draws secret ones

  int64_t epochs = 1;
  int64_t steps = 0;  ///< if not 0: stop after so many steps, whatever `epochs` says
  int64_t batch_size = 128;
  int64_t train_size = 10000, test_size = 2000;  ///< of the synthetic images
  int64_t image_size = 32;                       ///< of the synthetic images
  bool augment = true;

  /// "local" (wholly in the TEE), URIs of workers separated by commas, or "file:PATH": a URI a line, read again when it
  /// changes, so that workers join and leave a running job.
  std::string workers = "inprocess:";
  std::string tls;  ///< folder of certificates for grpc:// (ca.pem, master.pem, master.key)
  /// Who sums the gradients of resident weights over several workers: the master, or the workers among themselves.
  GradientSum gradient_sum = GradientSum::kMaster;
  int64_t worker_timeout = 120;  ///< seconds; a worker whose reply takes longer is lost
  int64_t worker_wait = 60;      ///< seconds to wait for a worker where none is left; then the run stops
  OffloadChoice offload = OffloadChoice::kAuto;
  /// Rates of one core of the TEE, by which `OffloadChoice::kAuto` decides: "measured" (in less than a second at first
  /// use, and then kept in the user's cache), "built-in", or figures, NAME=VALUE separated by commas, which a run that
  /// was placed by measured ones has in their place.
  std::string rates = "measured";
  /// Its `decoys`, `reuse` and `weights` are overwritten by those below.
  BlindingOptions blinding = {.protection = "oblique"};
  std::optional<double> decoys;  ///< unset: 3 under rotated, else 0
  std::optional<Reuse> reuse;    ///< unset: split under oblique, else full
  /// Unset: resident where keys are orthogonal, reuse is full and the optimiser is SGD; else returned.
  std::optional<WeightPlacement> weights;
  bool allow_unprotected = false;
  std::string integrity = "always";
  ActivationStorage activations = ActivationStorage::kFloat32;

  Optimizer optimizer = Optimizer::kSgd;
  double lr = 0.1;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  Schedule schedule = Schedule::kCosine;
  int64_t warmup_steps = 0;
  double label_smoothing = 0;
  double clip_norm = 0;  ///< 0: no clipping

  std::optional<uint64_t> seed;     ///< unset: drawn by the OS and kept secret; set: reproducible, and guessable
  int tee_threads = 0;              ///< 0: all cores
  int64_t checkpoint_interval = 0;  ///< steps; 0: at the end of every epoch
  std::string key;                  ///< sealing key file; "" means the user's own
  std::string metrics;              ///< HOST:PORT at which Prometheus metrics are served, in plain; "" means nowhere
  std::string page;                 ///< HOST:PORT, or PORT of localhost, of a page that shows the run; "" means nowhere
  std::string log;                  ///< file that log lines are appended to, "-" standard error; "" means nowhere
};

/// What `summary.json` says. Byte and second figures are of training steps; evaluation is not counted.
struct RunSummary {
  std::string model, protection, reuse, weights, workers, optimizer;
  int64_t parameters = 0, steps = 0, epochs = 0, batch_size = 0;
  bool completed = false;  ///< false if the run was interrupted and can be resumed
  double samples_per_second = 0, step_seconds_median = 0, tee_cpu_seconds_per_sample = 0;
  double bytes_to_workers_per_sample = 0, bytes_from_workers_per_sample = 0;
  double encryptions_per_step = 0, rekey_encryptions_per_step = 0;
  int64_t offloaded_layers = 0;
  double offloaded_flop_fraction = 0;
  int64_t integrity_checks = 0, integrity_failures = 0;
  int64_t reissued = 0;  ///< parts of operations that went to a second worker
  int64_t returns = 0;   ///< times that the run went back to its last checkpoint
  double peak_resident_bytes = 0;
  double key_seconds = 0, blind_seconds = 0, unblind_seconds = 0, verify_seconds = 0,
         wait_seconds = 0;  ///< wall, training steps of this process
  double final_train_loss = 0;
  std::optional<double> test_accuracy;  ///< of the last evaluation of this process; unset if there was none
  std::vector<double> losses;           ///< of every step of this process; in metrics.jsonl, not in summary.json
};

/// Keeps what a run leaves behind, for a caller that may have nothing in plain on a disk and must know which checkpoint
/// is the newest. With it the run writes checkpoints and nothing else: no metrics.jsonl, no summary.json, no
/// config.toml. Called by the thread that runs; what it throws ends the run.
class RunKeeper {
 public:
  /// Where a checkpoint lies and what it is sealed under. The key is borrowed until the next call.
  struct Place {
    std::filesystem::path file;
    const SecretKey* key = nullptr;
  };
  virtual ~RunKeeper() = default;
  /// What to go on from; nothing: the run starts. A run that goes on draws new blinding keys, always: whether an older
  /// checkpoint was gone on from before cannot be told here.
  virtual std::optional<Place> resumed() = 0;
  /// Where the checkpoint of `step` goes.
  virtual Place next(int64_t step) = 0;
  /// The checkpoint last asked for is whole and on disk.
  /// @param is_last the run has done all its steps
  virtual void saved(int64_t step, bool is_last) = 0;
  /// A line of what metrics.jsonl would hold, without its end.
  virtual void line(int64_t step, const std::string& json) = 0;
  /// Lines of later steps are void: those steps are done again.
  virtual void went_back(int64_t step) = 0;
};

/// How a caller watches and stops a run.
struct RunHooks {
  const std::atomic<bool>* stop =
      nullptr;  ///< set: finish the step, or the wait for a worker, save, return with completed = false
  /// Called once, before anything is written or trained: from now on `stop` is looked at. Until then, while data are
  /// read and workers connected to, there is nothing to save.
  std::function<void()> begins{};
  bool quiet = false;  ///< no progress on stderr
  /// Keys that are in memory only, borrowed for the call. Null: the files `data_key` and `key` of the configuration.
  const SecretKey* data_key = nullptr;     ///< opens `data`, which must then be a sealed archive
  const SecretKey* sealing_key = nullptr;  ///< opens and seals checkpoints
  std::string archive_id{};                ///< which archive `data` must be, not only one of that key; "": any
  RunKeeper* keeper = nullptr;             ///< instead of a run directory, and of `sealing_key`
};

/// Trains, evaluates, writes the run directory. @throws InputError, RunError
RunSummary run_training(const RunConfig& config, const RunHooks& hooks = {});

/// The configuration to go on with a run: the one sealed in its checkpoint, with `resume` and `out` set to `run`.
/// Not config.toml, which anyone who can write the directory can change.
RunConfig resumed_config(const std::filesystem::path& run, const std::string& key);
/// The same with a key in memory; `run_training` is then to get it as `RunHooks::sealing_key`.
RunConfig resumed_config(const std::filesystem::path& run, const SecretKey& key);

struct Evaluation {
  int64_t images = 0;
  double accuracy = 0, loss = 0;
};
/// Accuracy of a run's last checkpoint on the test images of `data` ("" means the data it was trained on).
/// @param key sealing key file. @param data_key key file that opens a sealed `data`, else "".
Evaluation run_evaluation(const std::filesystem::path& run, const std::string& data, const std::string& key,
                          const std::string& data_key = "");

struct Prediction {
  int64_t image = 0;  ///< record number in the file
  std::string label;
  double probability = 0;
};
/// Classes of the images in one CIFAR-10 binary file, by a run's last checkpoint.
/// @param images the file, or a sealed archive that holds it alone, or a data set: then its test_batch.bin.
std::vector<Prediction> run_prediction(const std::filesystem::path& run, const std::filesystem::path& images,
                                       const std::string& key, const std::string& data_key = "");

/// One image, and what a worker holds in its place: the operand of the first offloaded convolution.
struct WorkerView {
  int64_t image_side = 0, image_channels = 0;
  std::vector<uint8_t> image;         ///< [image_channels, image_side, image_side]
  int64_t side = 0, channels = 0;     ///< of the operand
  std::vector<float> plain, blinded;  ///< [channels, side, side]: in the TEE; as sent
};
/// What a worker would get of test image `image` in a training step with the weights of a run's last checkpoint.
WorkerView run_worker_view(const std::filesystem::path& run, int64_t image, const std::string& key,
                           const std::string& data_key = "");

/// Rates for `plan`; 0 keeps that of `RunConfig::rates`, or the built-in one of workers and link.
struct PlanRates {
  double worker_gflops = 0, link_gbytes_per_second = 0, tee_gflops = 0;
};
/// The placement table of `config`, and its predicted costs, without training.
std::string plan_run(const RunConfig& config, const PlanRates& rates);

/// Writes the plain weights of a run's last checkpoint as safetensors with torchvision's (timm's) names.
/// The file is not sealed: for use inside the TEE, or by the model's owner.
void export_run(const std::filesystem::path& run, const std::filesystem::path& file, const std::string& key);

}  // namespace tempo
