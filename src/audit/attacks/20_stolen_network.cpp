// The stolen network.
// What the attacker has: what attacks 17 to 19 have, of every layer in one step.
// Algorithm: the layers are chained from the first to the last (attack 18), the first layer is put before them (attack
// 19), and only the last norm, the last shortcut and the head are left to be trained with a few labels. The result is a
// model that runs: what it is worth stands among the surrogate models of the report, with "attack 20" in its name.
// Source: own analysis.
// Success: share of the channels of all layers but the first that are linked right, of those that are ever positive.
// Chance: the same of random links.
#include <fmt/format.h>

#include <cmath>

#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"
#include "audit/theft/layer_chain.h"

namespace tempo::audit {
namespace stolen_network {
namespace {

constexpr int kNumber = 20;
constexpr const char* kTarget = "channels linked in the whole network";

std::vector<Finding> run(const LayerCase& first, Random& random) {
  if (!first.reads_first_layer)
    return {not_applicable(kNumber, kTarget, "the attack begins at the layer that reads the first one")};
  std::vector<const LayerCase*> layers;
  for (const LayerCase* layer = &first; layer != nullptr; layer = layer->next) layers.push_back(layer);
  if (layers.size() < 2) return {not_applicable(kNumber, kTarget, "the next layer was not recorded")};

  const LayerChain chain = follow_layers(layers, random);
  double right = 0, expected = 0, channels = 0;
  for (size_t i = 1; i < layers.size(); ++i) {
    const StepTruth &before = layers[i - 1]->truth.front(), &here = layers[i]->truth.front();
    const std::vector<bool> live = live_channels(here.x);
    const std::vector<int> from = only_live(largest_columns(before.right), live);
    const std::vector<int> to = only_live(largest_columns(here.inner), live);
    const auto count = static_cast<double>(to.size());
    if (chain.images() > 0) right += count * share_linked(chain.layers[i].links.from, to, from);
    expected += count / static_cast<double>(layers[i]->in());
    channels += count;
  }
  // The number of hits of a random permutation has a variance of one.
  Finding finding = scored(kNumber, kTarget, "share of channels linked", right / channels,
                           {expected / channels, std::sqrt(expected) / channels});
  finding.note = fmt::format("{} images were followed through {} layers", chain.images(), layers.size());
  return {finding};
}

}  // namespace
}  // namespace stolen_network

const Attack kStolenNetwork{20,
                            "stolen network",
                            "Can a worker run the network that it helps to train?",
                            "one step, the architecture, other images of the same kind, a few labels",
                            "own analysis",
                            stolen_network::run};

}  // namespace tempo::audit
