/// Decides which layers a worker computes, by a cost model, before anything runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/model.h"
#include "nn/offloaded.h"
#include "obfuscation/protection.h"
#include "tempo/options.h"

namespace tempo::nn {

/// Rates of one core of the TEE. The built-in ones are of one CPU (docs/running.md); train/machine_rates.h measures
/// those of another. A run keeps the rates that it was placed with, so that placement does not depend on how busy a
/// machine is.
struct TeeRates {
  double flops_per_second = 7.0e10;       ///< products of matrices
  double conv_flops_per_second = 7.0e10;  ///< convolutions
  double bytes_per_second = 1.2e10;       ///< element-wise passes, bytes read plus written
  obfuscation::BlindingRates blinding = {};
  double verify_seconds = 0.4e-9;  ///< seconds to project one element in a separate pass, if results are verified
  double verify_on_the_way_seconds = 0.05e-9;  ///< seconds to project one element while it is blinded or un-blinded
  double key_seconds = 1.0e-5;                 ///< seconds to derive one key
  double key_seconds_per_entry = 6.0e-9;       ///< seconds to draw one entry of one round of a key
};

/// The TEE, the workers, and what lies between.
struct MachineModel {
  TeeRates tee = {};
  double worker_flops_per_second = 2.0e11;
  double link_bytes_per_second = 8.0e9;  ///< between master and worker, in each direction
  int tee_threads = 1;
  bool verifies = true;
  /// Bytes that the optimiser reads and writes in the TEE for one parameter: 5 values for SGD with momentum, 7 for
  /// AdamW.
  double optimiser_bytes_per_parameter = 20;
};

enum class Placement { kTee, kWorker };

/// One product of the model, at one batch size. Costs are those of a training step: forward and both gradients.
struct LayerPlan {
  std::string name;   ///< as in the state dictionary, without ".weight"; attention products end in .scores, .values
  std::string kind;   ///< "conv 3x3/2", "linear", "matmul"
  std::string shape;  ///< "64x32x32 -> 128x16x16"
  double flops = 0;
  double bytes_to_worker = 0, bytes_from_worker = 0;
  double seconds_in_tee = 0;    ///< CPU seconds if the TEE computes it
  double seconds_to_blind = 0;  ///< CPU seconds in the TEE if a worker computes it: keys, blinding, verifying
  double seconds_saved = 0;     ///< CPU seconds of the optimiser that a resident weight saves
  Placement placement = Placement::kTee;
  std::string reason;
};

struct Plan {
  std::vector<LayerPlan> layers;
  int64_t parameters = 0;
  double elementwise_seconds = 0;  ///< CPU seconds of element-wise work, which stays in the TEE
  double optimiser_seconds = 0;    ///< CPU seconds of the optimiser if every weight is in the TEE

  [[nodiscard]] double total_flops() const;
  [[nodiscard]] double offloaded_flop_fraction() const;
  [[nodiscard]] int64_t offloaded_layers() const;
  [[nodiscard]] double bytes_to_worker() const;
  [[nodiscard]] double bytes_from_worker() const;
  /// Predicted CPU seconds of a step in the TEE.
  [[nodiscard]] double tee_seconds() const;
  /// Predicted CPU seconds of a step with every layer in the TEE.
  [[nodiscard]] double local_seconds() const;
  /// Predicted wall seconds of a step, without overlap of TEE, link and worker.
  [[nodiscard]] double step_seconds(const MachineModel& machine) const;
};

enum class OffloadPolicy {
  kNone,  ///< wholly in the TEE
  kAuto,  ///< each product that costs the TEE less to blind than to compute
  kAll,   ///< every product that may leave the TEE; the first and the last layer never do
};

/// What a plan depends on besides the model.
struct PlanInputs {
  int64_t batch_size = 0;
  const BlindingOptions& blinding;
  OffloadPolicy policy = OffloadPolicy::kAuto;
  const MachineModel& machine;
};
/// Makes the plan. Runs the model once, on two blank images, to see its layers; the model's mode and state stay as they
/// were.
Plan make_plan(Model& model, const ModelOptions& options, const PlanInputs& inputs);

/// Attaches the layers that the plan offloads to the session. @returns them in the plan's order.
/// @throws InputError if the model lacks one of them.
std::vector<std::shared_ptr<BilinearProduct>> apply_plan(Model& model, const Plan& plan, offload::Session& session);

/// The table that `tempo plan` prints.
std::string to_table(const Plan& plan, const MachineModel& machine);

}  // namespace tempo::nn
