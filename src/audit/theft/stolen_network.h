/// Attack 20: a network that runs, made of what attacks 17 to 19 recover from one step, and the surrogate model that an
/// attacker trains from it with a few labels.
#pragma once

#include <torch/types.h>

#include <optional>
#include <vector>

#include "audit/surrogate.h"
#include "audit/theft/first_layer.h"
#include "audit/theft/layer_chain.h"

namespace tempo::audit {

/// From images to what goes into the last norm, in the worker's channels and scales. Only the last norm, the last
/// shortcut and the head are missing: the worker is never sent what follows from them.
class StolenNetwork {
 public:
  /// Follows `first`, which reads the first layer, through `next` to the last recorded layer.
  /// @param data  mean and deviation by which the model normalises images: public.
  /// Nothing if no image could be followed, or the first layer was not recovered.
  static std::optional<StolenNetwork> from(const LayerCase& first, const train::Dataset& data, Random& random);

  struct Features {
    torch::Tensor y;         ///< output of the last layer [n, channels, side, side]
    torch::Tensor shortcut;  ///< what its block read
  };
  /// @param images [n, 3, height, width], as the victim's model is given them.
  [[nodiscard]] Features features(const torch::Tensor& images) const;

 private:
  struct Layer {
    torch::Tensor weight;  // [out, in, 3, 3]
    int64_t stride = 1;
    bool adds_shortcut = false;  // to this layer's output
    // To the input of the next layer, by its channels: x' = max(0, a y[from] + k s[shortcut] + b).
    torch::Tensor from, shortcut, a, k, b;
  };
  torch::Tensor first_kernels_, first_bias_;
  std::vector<Layer> layers_;
};

/// Trains norm, shortcut and head of the network on what the budget allows, and judges it.
SurrogateResult steal_network(const StealTarget& target, const std::string& start_from, const StolenNetwork& network,
                              const Budget& budget, const SurrogateOptions& options);

}  // namespace tempo::audit
