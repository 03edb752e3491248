/// A model made ready to run: placed, and connected to its workers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/model.h"
#include "nn/offloaded.h"
#include "nn/placement.h"
#include "offload/pool/worker_list.h"
#include "offload/session.h"
#include "offload/worker_factory.h"
#include "tempo/run.h"

namespace tempo::train {

/// Members are declared in the order in which they may be used: layers refer to the session, the model to its layers.
struct Deployment {
  nn::ModelOptions options;
  std::optional<offload::WorkerList> workers;
  std::unique_ptr<offload::Session> session;  ///< nullptr with workers=local
  std::vector<std::shared_ptr<offload::BilinearProduct>> layers;
  std::shared_ptr<nn::Model> model;
  nn::Plan plan;
  std::unique_ptr<ThreadPool> own_threads;  ///< nullptr with workers

  [[nodiscard]] bool is_offloaded() const { return session != nullptr; }
  /// The TEE's threads, beside those of LibTorch: those that blind, or, without workers, some of its own.
  [[nodiscard]] ThreadPool& threads() { return session ? session->threads() : *own_threads; }
  /// The offloaded layer whose weight is the model's parameter of this name, or nullptr.
  [[nodiscard]] offload::BilinearProduct* layer_of(const std::string& parameter) const;
  /// Whether the gradient of this parameter stays on the workers, which then update it.
  [[nodiscard]] bool is_updated_there(const std::string& parameter) const;
  /// The weights of all offloaded layers.
  [[nodiscard]] std::vector<offload::Parameter*> parameters() const;
  /// Follows the list of workers, takes in those that have come, and gives them the weights that stay on workers.
  /// Between steps.
  /// @returns what is wrong with the list, once; else nothing
  std::string admit_workers();
};

/// The rates for the plan of a configuration, as `tee_rates` has them.
nn::MachineModel machine_model(const RunConfig& config);

/// What `workers` and `offload` ask for.
nn::OffloadPolicy offload_policy(const RunConfig& config);

using offload::WorkerWrapper;

/// Makes the model (parameters zero), plans it, and connects it.
/// @param master the blinding secret. A process without workers has none; with workers, it must be there.
Deployment deploy(const RunConfig& config, const nn::ModelOptions& options, std::optional<SecretKey> master,
                  const WorkerWrapper& wrap = {});

}  // namespace tempo::train
