#include "train/deployment.h"

#include <thread>

#include "offload/worker_factory.h"
#include "train/config.h"

namespace tempo::train {

nn::BlindedLayer* Deployment::resident_layer_of(const std::string& parameter) const {
  for (const auto& layer : layers)
    if (layer->resident() != nullptr && parameter == layer->product()->layer() + ".weight") return layer.get();
  return nullptr;
}

nn::MachineModel machine_model(const RunConfig& config) {
  nn::MachineModel machine;
  machine.tee_threads = tee_threads(config);
  return machine;
}

nn::OffloadPolicy offload_policy(const RunConfig& config) {
  if (config.workers == "local") return nn::OffloadPolicy::kNone;
  return config.offload == OffloadChoice::kAll ? nn::OffloadPolicy::kAll : nn::OffloadPolicy::kAuto;
}

Deployment deploy(const RunConfig& config, const nn::ModelOptions& options, SecretKey master,
                  const WorkerWrapper& wrap) {
  Deployment deployment;
  deployment.options = options;
  deployment.model = nn::make_model(options);
  deployment.plan = nn::make_plan(*deployment.model, options, config.batch_size, config.blinding,
                                  offload_policy(config), machine_model(config));
  if (offload_policy(config) == nn::OffloadPolicy::kNone) return deployment;
  const int worker_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  auto worker = offload::make_worker(config.workers, worker_threads, config.tls);
  if (wrap) worker = wrap(std::move(worker));
  deployment.session =
      std::make_unique<offload::Session>(config.blinding, std::move(master), std::move(worker), tee_threads(config),
                                         integrity::parse_policy(config.integrity));
  deployment.layers = nn::apply_plan(*deployment.model, deployment.plan, *deployment.session);
  return deployment;
}

}  // namespace tempo::train
