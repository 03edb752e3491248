/// A look at every layer's call during one forward pass: shapes for the plan, finiteness after a bad loss.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace tempo::nn {

/// One product or normalisation that just ran. `part` names a product inside a module, e.g. "scores"; else empty.
struct LayerCall {
  const torch::nn::Module& module;
  std::string_view part;
  const torch::Tensor& input;
  const torch::Tensor& operand;  ///< the weight or second factor; undefined for normalisations
  const torch::Tensor& output;
};

/// Calls `observer` for every layer call of this thread while it lives. Does not nest.
class ScopedProbe {
 public:
  explicit ScopedProbe(std::function<void(const LayerCall&)> observer);
  ~ScopedProbe();
  ScopedProbe(const ScopedProbe&) = delete;
  ScopedProbe& operator=(const ScopedProbe&) = delete;
};

/// Every module's name in the state dictionary, to tell calls apart.
std::map<const torch::nn::Module*, std::string> module_names(const torch::nn::Module& root);

/// Whether this thread's calls are looked at: then all that is reported must be in memory.
bool is_probed();

/// For layers: reports a call; costs one thread-local read when nobody looks.
void report_call(const torch::nn::Module& module, std::string_view part, const torch::Tensor& input,
                 const torch::Tensor& operand, const torch::Tensor& output);

}  // namespace tempo::nn
