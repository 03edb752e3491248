/// A model made ready to run: placed, and connected to its workers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nn/blinded_layer.h"
#include "nn/model.h"
#include "nn/placement.h"
#include "offload/session.h"
#include "tempo/run.h"

namespace tempo::train {

/// Members are declared in the order in which they may be used: layers refer to the session, the model to its layers.
struct Deployment {
  nn::ModelOptions options;
  std::unique_ptr<offload::Session> session;  ///< nullptr with workers=local
  std::vector<std::shared_ptr<nn::BlindedLayer>> layers;
  std::shared_ptr<nn::Model> model;
  nn::Plan plan;

  [[nodiscard]] bool is_offloaded() const { return session != nullptr; }
  /// The layer whose weight is resident under this parameter's name, or nullptr.
  [[nodiscard]] nn::BlindedLayer* resident_layer_of(const std::string& parameter) const;
};

/// The built-in rates for the plan of a configuration.
nn::MachineModel machine_model(const RunConfig& config);

/// What `workers` and `offload` ask for.
nn::OffloadPolicy offload_policy(const RunConfig& config);

/// Puts something between the session and its worker: the audit's observer, a liar.
using WorkerWrapper = std::function<std::shared_ptr<offload::Worker>(std::shared_ptr<offload::Worker>)>;

/// Makes the model (parameters zero), plans it, and connects it. @param master the blinding secret.
Deployment deploy(const RunConfig& config, const nn::ModelOptions& options, SecretKey master,
                  const WorkerWrapper& wrap = {});

}  // namespace tempo::train
