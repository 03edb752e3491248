#include "train/deployment.h"

#include <fmt/format.h>

#include <stdexcept>
#include <thread>

#include "nn/layers.h"
#include "observe/standard_streams.h"
#include "train/config.h"
#include "train/machine_rates.h"

namespace tempo::train {

offload::BilinearProduct* Deployment::layer_of(const std::string& parameter) const {
  for (const auto& layer : layers)
    if (layer->parameter() != nullptr && parameter == layer->layer() + ".weight") return layer.get();
  return nullptr;
}

bool Deployment::is_updated_there(const std::string& parameter) const {
  offload::BilinearProduct* const layer = layer_of(parameter);
  return layer != nullptr && layer->parameter()->keeps_gradient();
}

std::vector<offload::Parameter*> Deployment::parameters() const {
  std::vector<offload::Parameter*> weights;
  for (const auto& layer : layers)
    if (layer->parameter() != nullptr) weights.push_back(layer->parameter());
  return weights;
}

std::string Deployment::admit_workers() {
  std::string problem;
  if (const auto uris = workers->changed(problem)) session->workers().set_workers(*uris);
  if (session->workers().begin_step())
    for (offload::Parameter* const weight : parameters()) weight->replicate();
  return problem;
}

nn::MachineModel machine_model(const RunConfig& config) {
  nn::MachineModel machine{.tee = tee_rates(config)};
  machine.tee_threads = tee_threads(config);
  machine.verifies = integrity::parse_policy(config.integrity).policy != integrity::Policy::kOff;
  if (config.optimizer == Optimizer::kAdamW) machine.optimiser_bytes_per_parameter = 28;
  return machine;
}

nn::OffloadPolicy offload_policy(const RunConfig& config) {
  if (config.workers == "local") return nn::OffloadPolicy::kNone;
  return config.offload == OffloadChoice::kAll ? nn::OffloadPolicy::kAll : nn::OffloadPolicy::kAuto;
}

Deployment deploy(const RunConfig& config, const nn::ModelOptions& options, std::optional<SecretKey> master,
                  const WorkerWrapper& wrap) {
  Deployment deployment;
  deployment.options = options;
  deployment.model = nn::make_model(options);
  if (config.activations == ActivationStorage::kBFloat16) nn::keep_activations(*deployment.model, torch::kBFloat16);
  deployment.plan = nn::make_plan(*deployment.model, options,
                                  {config.batch_size, config.blinding, offload_policy(config), machine_model(config)});
  if (offload_policy(config) == nn::OffloadPolicy::kNone) {
    deployment.own_threads = std::make_unique<ThreadPool>(tee_threads(config));
    return deployment;
  }
  if (!master) throw std::logic_error("deploy: workers without a secret to blind with");
  deployment.workers.emplace(config.workers);
  const offload::WorkerAccess access = {.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency())),
                                        .tls_folder = config.tls};
  if (const std::string warning = offload::certificate_warning(deployment.workers->uris(), access); !warning.empty())
    observe::note("{}\n", warning);
  auto pool = offload::make_worker_pool(deployment.workers->uris(), access,
                                        {.operation = std::chrono::seconds(config.worker_timeout),
                                         .sums_between_workers = config.gradient_sum == GradientSum::kWorkers},
                                        wrap);
  deployment.session =
      std::make_unique<offload::Session>(config.blinding, std::move(*master), std::move(pool), tee_threads(config),
                                         integrity::parse_policy(config.integrity));
  deployment.layers = nn::apply_plan(*deployment.model, deployment.plan, *deployment.session);
  return deployment;
}

}  // namespace tempo::train
