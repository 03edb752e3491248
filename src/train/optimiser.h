/// Updates of the weights that live in the TEE. Written out rather than taken from torch::optim because checkpoints
/// need their state by name, on every LibTorch version.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tempo/run.h"

namespace tempo::train {

/// A parameter and where it stands in the model.
struct NamedParameter {
  std::string name;
  torch::Tensor tensor;
  /// Weight decay is for weights of two dimensions and more: not for biases and normalisation.
  [[nodiscard]] bool decays() const { return tensor.dim() >= 2; }
};

/// A tensor of the optimiser's state: "velocity.conv1.weight".
using NamedState = std::vector<std::pair<std::string, torch::Tensor>>;

class TeeOptimiser {
 public:
  virtual ~TeeOptimiser() = default;
  /// One step over every parameter that has a gradient. @param gradient_scale multiplies every gradient first.
  virtual void step(double learning_rate, double gradient_scale) = 0;
  /// The live state, to be saved or copied into.
  virtual NamedState state() = 0;
  /// Steps taken; part of AdamW's state.
  virtual int64_t steps() const = 0;
  virtual void set_steps(int64_t steps) = 0;
};

/// SGD with momentum as torch.optim.SGD (no dampening), or AdamW as torch.optim.AdamW (betas 0.9 and 0.999, eps 1e-8).
std::unique_ptr<TeeOptimiser> make_optimiser(const RunConfig& config, std::vector<NamedParameter> parameters);

/// Learning rate of a step in 0..total-1: linear warm-up, then cosine to zero or constant.
double learning_rate(const RunConfig& config, int64_t step, int64_t total_steps);

}  // namespace tempo::train
