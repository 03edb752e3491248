// Network linking.
// What the attacker has: X~, W~, Y~ of a layer and X~ of the layer that reads it, in one step; the architecture.
// Algorithm: images are laid out (attack 17) and recognised from layer to layer by how alike their maps are. Then
// x' = a y + k s + b is fitted over the positive entries of every input channel of the next layer, for every output
// channel y of this one and every channel s of the shortcut: the one pair that fits to rounding is the link. The
// rank-one split of b over images and channels removes the factors of images; a, k and b are the batch norm and the
// shortcut. Source: own analysis; assignment of images: Kuhn, 1955. Success: (a) share of channels linked, as in attack
// 15, of those that are ever positive; (b) the same of the channels of the shortcut; (c) one minus the relative error
// of the next layer's X~ as computed from this one's Y~, over all entries, zeros included, median over channels. The
// fit knows neither the zeros nor which entries they are. Chance: (a), (b) random links; (c) links shuffled among the
// channels.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"
#include "audit/theft/layer_chain.h"

namespace tempo::audit {
namespace network_linking {
namespace {

constexpr int kNumber = 18;
constexpr int kShuffles = 5;
constexpr const char* kLinks = "channels linked by fitting the norm";
constexpr const char* kShortcuts = "channels of the shortcut";
constexpr const char* kFunction = "what the next layer is sent, computed";

std::vector<const LayerCase*> chain_of(const LayerCase& layer) {
  if (layer.adds_shortcut) return {layer.previous, &layer, layer.next};
  return {&layer, layer.next};
}

/// Relative error of one input channel of the last layer, computed from the layer before.
double error_of(const LayerChain& chain, const FeatureMaps* shortcut, const ChannelLinks& links, int64_t channel) {
  const FeatureMaps& y = chain.layers[chain.layers.size() - 2].y;
  const FeatureMaps& x = chain.layers.back().x;
  const auto c = static_cast<size_t>(channel);
  if (links.from[c] < 0) return 1;
  double error = 0, energy = 0;
  for (int64_t i = 0; i < x.images; ++i) {
    const double* from = y.map(i, links.from[c]);
    const double* added = links.shortcut[c] < 0 || shortcut == nullptr ? nullptr : shortcut->map(i, links.shortcut[c]);
    const double* to = x.map(i, channel);
    for (int64_t p = 0; p < x.pixels(); ++p) {
      const double sum =
          links.a(channel) * from[p] + links.b(channel) + (added == nullptr ? 0 : links.k(channel) * added[p]);
      if (!std::isfinite(sum) || !std::isfinite(to[p])) continue;
      error += std::pow(std::max(0.0, sum) - to[p], 2);
      energy += to[p] * to[p];
    }
  }
  return energy > 0 ? std::min(1.0, std::sqrt(error / energy)) : 1;
}

double median_error(const LayerChain& chain, const FeatureMaps* shortcut, const ChannelLinks& links) {
  std::vector<double> errors;
  for (int64_t c = 0; c < chain.layers.back().x.channels; ++c) errors.push_back(error_of(chain, shortcut, links, c));
  return median(std::move(errors));
}

Finding score_function(const LayerChain& chain, Random& random) {
  FeatureMaps shortcut;
  const FeatureMaps* s = nullptr;
  if (chain.layers.size() == 3) {
    shortcut = subsampled(chain.layers.front().x, chain.layers.front().stride);
    s = &shortcut;
  }
  const ChannelLinks& links = chain.layers.back().links;
  const double error = median_error(chain, s, links);
  ChannelLinks other = links;
  const Chance chance = measure_chance(kShuffles, [&] {
    std::shuffle(other.from.begin(), other.from.end(), random);
    return 1 - median_error(chain, s, other);
  });
  Finding finding = scored(kNumber, kFunction, "1 - relative error", 1 - error, chance);
  finding.note = fmt::format("median relative error {:.1e} over {} images", error, chain.images());
  return finding;
}

/// Channels of a shortcut that pads: channel c of the sum gets channel c - padding of the block's input.
Finding score_shortcut(const LayerCase& layer, const std::vector<int>& guess, Random& random) {
  const Matrix& block_input = layer.previous->truth.front().inner;
  const Matrix& inner = layer.next->truth.front().inner;
  const std::vector<int> from = largest_columns(block_input), to = largest_columns(inner);
  const auto padding = static_cast<int64_t>(to.size() - from.size()) / 2;
  const std::vector<bool> live = live_channels(layer.previous->truth.front().x);
  const std::vector<bool> live_sum = live_channels(layer.next->truth.front().x);
  std::vector<int> sums, added;
  for (size_t c = 0; c < from.size(); ++c) {
    if (!live[c] || !live_sum[c + static_cast<size_t>(padding)]) continue;
    sums.push_back(to[c + static_cast<size_t>(padding)]);
    added.push_back(from[c]);
  }
  return scored(kNumber, kShortcuts, "share of channels linked", share_linked(guess, sums, added),
                linking_chance(sums, added, static_cast<int64_t>(to.size()), random));
}

bool is_recorded(const LayerCase* layer) {
  return layer != nullptr && !layer->view.empty() && !layer->truth.empty() && !layer->view.front().x.empty() &&
         !layer->view.front().y.empty();
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto refuse = [](const char* why) -> std::vector<Finding> {
    return {not_applicable(kNumber, kLinks, why), not_applicable(kNumber, kShortcuts, why),
            not_applicable(kNumber, kFunction, why)};
  };
  if (!is_recorded(&layer) || !is_recorded(layer.next)) return refuse("the next layer was not recorded");
  if (layer.adds_shortcut && !is_recorded(layer.previous)) return refuse("the shortcut was not recorded");
  const Matrix& right = layer.truth.front().right;
  const Matrix& inner = layer.next->truth.front().inner;
  if (right.rows() != layer.out() || inner.rows() != layer.next->in() || layer.out() != layer.next->in())
    return refuse("the next layer reads other channels");

  const LayerChain chain = follow_layers(chain_of(layer), random);
  const size_t channels = static_cast<size_t>(layer.next->in());
  std::vector<int> from(channels, -1), shortcut(channels, -1);
  if (chain.images() > 0) {
    from = chain.layers.back().links.from;
    shortcut = chain.layers.back().links.shortcut;
  }
  const std::vector<bool> live = live_channels(layer.next->truth.front().x);
  const std::vector<int> to_columns = only_live(largest_columns(inner), live);
  const std::vector<int> from_columns = only_live(largest_columns(right), live);
  std::vector<Finding> findings = {scored(kNumber, kLinks, "share of channels linked",
                                          share_linked(from, to_columns, from_columns),
                                          linking_chance(to_columns, from_columns, layer.out(), random))};
  findings.push_back(layer.adds_shortcut
                         ? score_shortcut(layer, shortcut, random)
                         : not_applicable(kNumber, kShortcuts, "nothing is added to this layer's output"));
  findings.push_back(chain.images() > 0 ? score_function(chain, random)
                                        : scored(kNumber, kFunction, "1 - relative error", 0, {}));
  if (chain.images() == 0)
    for (Finding& finding : findings)
      if (finding.applicable) finding.note = "no image was laid out";
  return findings;
}

}  // namespace
}  // namespace network_linking

const Attack kNetworkLinking{18,
                             "network linking",
                             "Can a worker put the layers together to a network that computes the same?",
                             "one step, the architecture",
                             "own analysis; assignment: Kuhn, 1955",
                             network_linking::run};

}  // namespace tempo::audit
