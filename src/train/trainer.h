/// The training loop.
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "base/secret.h"
#include "tempo/run.h"
#include "train/checkpoint.h"
#include "train/data/batches.h"
#include "train/data/dataset.h"
#include "train/deployment.h"
#include "train/optimiser.h"
#include "train/run_log.h"

namespace tempo::train {

/// A batch as the model takes it.
struct BatchTensors {
  torch::Tensor images;  ///< [n, channels, height, width], channels-last
  torch::Tensor labels;  ///< [n], int64
};
BatchTensors make_batch(const Batches& batches, int64_t index, const Dataset& dataset, ThreadPool& threads);

/// Accuracy and mean loss over a data set, in evaluation mode. @param number names the keys of this evaluation: the
/// training step before it. Leaves the model in training mode.
Evaluation evaluate_model(Deployment& deployment, const Dataset& dataset, int64_t batch_size, uint64_t number,
                          ThreadPool& threads);

/// One training run over a deployed model. Not thread-safe.
class Trainer {
 public:
  /// Borrows everything. @param resume the checkpoint to go on from, or nullptr.
  Trainer(const RunConfig& config, Deployment& deployment, const DataSplits& data, SecretKey root, SecretKey master,
          SecretKey sealing_key);

  /// Takes over step, optimiser and resident weights; the model's own weights are restored by the caller.
  /// @param same_keys the master secret is the checkpoint's: resident weights go back as they were, bit for bit.
  void restore(const Checkpoint& checkpoint, bool same_keys);
  /// Runs to the end, or until `hooks.stop`. @throws RunError for a loss or gradient that is not finite.
  RunSummary run(const RunHooks& hooks);

 private:
  struct StepResult {
    double loss = 0, gradient_norm = 0;
  };
  StepResult train_step(const BatchTensors& batch, int64_t step);
  double global_gradient_norm();
  [[noreturn]] void stop_not_finite(const BatchTensors& batch, int64_t step);
  void evaluate_and_log(int64_t step, int64_t epoch);
  void save(int64_t step, bool stopping);
  Checkpoint capture(int64_t step, bool stopping);
  void restore_resident(const Checkpoint& checkpoint, bool same_keys);
  void fill_summary(int64_t steps_run, int64_t samples, const offload::Counters& training);

  const RunConfig& config_;
  Deployment& deployment_;
  const DataSplits& data_;
  SecretKey root_, master_, sealing_key_;
  ThreadPool threads_;
  std::vector<NamedParameter> tee_parameters_;
  std::unique_ptr<TeeOptimiser> optimiser_;
  int64_t first_step_ = 0, total_steps_ = 0, steps_per_epoch_ = 0;
  std::unique_ptr<RunLog> log_;
  RunSummary summary_;
  std::vector<double> step_seconds_;
};

}  // namespace tempo::train
