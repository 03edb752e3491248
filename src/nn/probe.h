/// Observes every layer's call during a forward pass: for shapes when planning, and for finiteness after a bad loss.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace tempo::nn {

/// One product or normalisation that has just run. `part` names a product inside a module, such as "scores", else it is
/// empty.
struct LayerCall {
  const torch::nn::Module& module;
  std::string_view part;
  const torch::Tensor& input;
  const torch::Tensor& operand;  ///< the weight or second factor; undefined for normalisations
  const torch::Tensor& output;
};

/// Calls `observer` for every layer call of this thread while the object lives. Does not nest.
class ScopedProbe {
 public:
  explicit ScopedProbe(std::function<void(const LayerCall&)> observer);
  ~ScopedProbe();
  ScopedProbe(const ScopedProbe&) = delete;
  ScopedProbe& operator=(const ScopedProbe&) = delete;
};

/// The name of every module in the state dictionary.
std::map<const torch::nn::Module*, std::string> module_names(const torch::nn::Module& root);

/// Whether this thread's calls are observed. If so, every reported tensor must be in memory.
bool is_probed();

/// Reports a call; called by layers. Costs one thread-local read if nobody observes.
void report_call(const torch::nn::Module& module, std::string_view part, const torch::Tensor& input,
                 const torch::Tensor& operand, const torch::Tensor& output);

}  // namespace tempo::nn
