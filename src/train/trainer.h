/// The training loop.
#pragma once

#include <torch/types.h>

#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "base/secret.h"
#include "tempo/run.h"
#include "train/checkpoint.h"
#include "train/data/batches.h"
#include "train/data/dataset.h"
#include "train/deployment.h"
#include "train/formats/progress.h"
#include "train/optimiser.h"
#include "train/run_log.h"
#include "train/telemetry.h"

namespace tempo::train {

/// A batch as the model takes it.
struct BatchTensors {
  torch::Tensor images;  ///< [n, channels, height, width], channels-last
  torch::Tensor labels;  ///< [n], int64
};
BatchTensors make_batch(const Batches& batches, int64_t index, const Dataset& dataset, ThreadPool& threads);

/// Accuracy and mean loss over a data set, in evaluation mode. @param number names the keys of this evaluation: the
/// training step before it. Leaves the model in training mode.
Evaluation evaluate_model(Deployment& deployment, const Dataset& dataset, int64_t batch_size, uint64_t number);

/// One training run over a deployed model. Not thread-safe.
class Trainer {
 public:
  /// Borrows everything. @param resume the checkpoint to go on from, or nullptr.
  /// @param keeper gets all that would go to the run directory, or nullptr; then `sealing_key` seals checkpoints.
  Trainer(const RunConfig& config, Deployment& deployment, const DataSplits& data, SecretKey root, SecretKey master,
          SecretKey sealing_key, RunKeeper* keeper = nullptr);
  ~Trainer();

  /// Takes over step, optimiser and resident weights; the model's own weights are restored by the caller.
  /// @param same_keys the master secret is the checkpoint's: resident weights go back as they were, bit for bit.
  void restore(const Checkpoint& checkpoint, bool same_keys);
  /// Runs to the end, or until `hooks.stop`. @throws RunError for a loss or gradient that is not finite.
  RunSummary run(const RunHooks& hooks);

 private:
  struct StepResult {
    double loss = 0, gradient_norm = 0;
  };
  /// What the steps of this process took; steps done again count again.
  struct Tally {
    offload::Counters offload;
    double tee_seconds = 0, wall_seconds = 0;
    int64_t samples = 0, steps = 0;
  };
  /// How far the run is in its data, whatever the batch sizes of its steps were.
  struct Place {
    int64_t epoch = 0;     ///< passes that are finished
    int64_t position = 0;  ///< images of the next one that have been seen; fewer than there are
  };
  [[nodiscard]] Place place_of(const Checkpoint& checkpoint) const;
  /// Steps from `place_` to the end of the last epoch.
  [[nodiscard]] int64_t steps_left() const;
  /// One step, and what is due after it. @returns whether the run is to stop here
  bool advance(int64_t step, const RunHooks& hooks);
  struct StepCost {
    double wall = 0, cpu = 0;  ///< seconds
    offload::Counters offload;
  };
  void log_step(int64_t step, const StepResult& result, const StepCost& cost, int64_t images);
  /// Workers failed, and their operands are gone: goes back to the last checkpoint, once a worker is there.
  /// @returns false if `*stop` was set: that checkpoint is saved then, and the run is over. @throws `error` where no
  /// worker can come, RunError where none came in time
  bool go_back(const std::exception_ptr& error, int64_t step, const std::atomic<bool>* stop);
  /// Saves what there is. @throws `error`, or RunError for a lost worker
  [[noreturn]] void stop_without_workers(const std::exception_ptr& error, bool is_stuck);
  void go_on_from(const Checkpoint& checkpoint);
  StepResult train_step(const BatchTensors& batch, int64_t step);
  double global_gradient_norm();
  /// What the user has after a failure, for its message.
  [[nodiscard]] std::string what_stands() const;
  [[noreturn]] void stop_not_finite(const BatchTensors& batch, int64_t step);
  void evaluate_and_log(int64_t step, int64_t epoch);
  void save(int64_t step, bool stopping);
  /// Where the run keeps them.
  void store(const Checkpoint& checkpoint);
  std::unique_ptr<RunLog> new_log(int64_t first_step);
  /// Says that the run begins, and with which workers.
  void log_start();
  /// Checks and failures since the last call.
  offload::Verifier::Counts new_checks();
  /// Keeps a copy to go back to.
  void remember(const Checkpoint& checkpoint);
  Checkpoint capture(int64_t step, bool stopping);
  void restore_optimiser(const Checkpoint& checkpoint);
  void restore_resident(const Checkpoint& checkpoint, bool same_keys);
  void fill_summary();

  const RunConfig& config_;
  Deployment& deployment_;
  const DataSplits& data_;
  SecretKey root_, master_, sealing_key_;
  RunKeeper* keeper_;
  std::vector<NamedParameter> tee_parameters_;
  std::unique_ptr<TeeOptimiser> optimiser_;
  bool has_checkpoint_ = false;  // where the run keeps them
  int64_t first_step_ = 0, total_steps_ = 0;
  Place place_;
  int64_t first_batch_ = 0;  // step of the first of `batches_`
  Telemetry telemetry_;
  std::unique_ptr<page::LivePage> page_;  // or nullptr
  std::unique_ptr<RunLog> log_;
  offload::Verifier::Counts checks_told_;
  std::optional<Progress> progress_;
  std::optional<Batches> batches_;
  Tally tally_;
  Checkpoint last_good_;           // copies of everything: what to go back to
  int returns_in_a_row_ = 0;       // without a step further than before
  int64_t furthest_failure_ = -1;  // step
  RunSummary summary_;
  std::vector<double> step_seconds_;
};

}  // namespace tempo::train
