/// Which layers a worker computes, decided by a cost model before anything runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/blinded_layer.h"
#include "nn/model.h"
#include "tempo/options.h"

namespace tempo::nn {

/// Rates of one core of the TEE and of the worker. Fixed numbers, not measured at run time: placement must not depend
/// on how busy a machine was. Where they come from: docs/running.md.
struct MachineModel {
  double tee_flops_per_second = 7.0e10;  ///< dense products inside the TEE, one core
  double tee_bytes_per_second = 1.2e10;  ///< element-wise passes, bytes read plus written, one core
  /// Blinding or un-blinding one element, one core: to copy or permute it, or the first row round with the channels'
  /// of `rotated`; and each further row round.
  double permute_seconds = 0.8e-9, rotate_seconds = 1.8e-9, row_round_seconds = 1.1e-9;
  double verify_seconds = 0.4e-9;              ///< to project one element, where results are verified
  double verify_on_the_way_seconds = 0.05e-9;  ///< the same while it is blinded or un-blinded
  double key_seconds = 1.0e-5;                 ///< deriving one key
  double key_seconds_per_entry = 6.0e-9;       ///< drawing one entry of one round of it
  double worker_flops_per_second = 2.0e11;
  double link_bytes_per_second = 8.0e9;  ///< between master and worker, each way
  int tee_threads = 1;
  bool verifies = true;
  /// Of the optimiser, in the TEE: read and written. SGD with momentum 5 values, AdamW 7.
  double optimiser_bytes_per_parameter = 20;
};

enum class Placement { kTee, kWorker };

/// One product of the model, at one batch size. Costs are of a whole training step: forward and both gradients.
struct LayerPlan {
  std::string name;   ///< as in the state dictionary, without ".weight"; attention products end in .scores, .values
  std::string kind;   ///< "conv 3x3/2", "linear", "matmul"
  std::string shape;  ///< "64x32x32 -> 128x16x16"
  double flops = 0;
  double bytes_to_worker = 0, bytes_from_worker = 0;
  double seconds_in_tee = 0;    ///< CPU seconds if the TEE computes it
  double seconds_to_blind = 0;  ///< CPU seconds of the TEE if a worker computes it: keys, blinding, verifying
  double seconds_saved = 0;     ///< CPU seconds of the optimiser that leave with a resident weight
  Placement placement = Placement::kTee;
  std::string reason;
};

struct Plan {
  std::vector<LayerPlan> layers;
  int64_t parameters = 0;
  double elementwise_seconds = 0;  ///< CPU seconds of what always stays in the TEE
  double optimiser_seconds = 0;    ///< the same of the optimiser, with every weight in the TEE

  [[nodiscard]] double total_flops() const;
  [[nodiscard]] double offloaded_flop_fraction() const;
  [[nodiscard]] int64_t offloaded_layers() const;
  [[nodiscard]] double bytes_to_worker() const;
  [[nodiscard]] double bytes_from_worker() const;
  /// Predicted TEE CPU seconds of a step.
  [[nodiscard]] double tee_seconds() const;
  /// The same with every layer in the TEE.
  [[nodiscard]] double local_seconds() const;
  /// Predicted wall seconds of a step, without overlap of TEE, link and worker.
  [[nodiscard]] double step_seconds(const MachineModel& machine) const;
};

enum class OffloadPolicy {
  kNone,  ///< wholly in the TEE
  kAuto,  ///< where the TEE's time to blind is below its time to compute
  kAll,   ///< every product that may leave; the first and last layer never do
};

/// Runs the model once on two blank images to see its layers. The model's mode and state are left as they were.
Plan make_plan(Model& model, const ModelOptions& options, int64_t batch_size, const BlindingOptions& blinding,
               OffloadPolicy policy, const MachineModel& machine);

/// Attaches the layers the plan offloads to the session. @returns them in the plan's order.
std::vector<std::shared_ptr<BlindedLayer>> apply_plan(Model& model, const Plan& plan, offload::Session& session);

/// The table that `tempo plan` prints.
std::string to_table(const Plan& plan, const MachineModel& machine);

}  // namespace tempo::nn
