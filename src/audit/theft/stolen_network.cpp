#include "audit/theft/stolen_network.h"

#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

#include "train/data/batches.h"
#include "train/trainer.h"

namespace tempo::audit {

namespace F = torch::nn::functional;
using torch::Tensor;

namespace {

constexpr int64_t kBatch = 250;

Tensor vector_of(const Vector& values) {
  Tensor out = torch::empty({values.size()});
  for (Eigen::Index i = 0; i < values.size(); ++i) out[i] = values(i);
  return out;
}

/// Channel numbers; what has none gets channel 0, and its coefficient must be 0.
Tensor channels_of(const std::vector<int>& channels) {
  Tensor out = torch::empty({static_cast<int64_t>(channels.size())}, torch::kInt64);
  for (size_t i = 0; i < channels.size(); ++i) out[static_cast<int64_t>(i)] = std::max(channels[i], 0);
  return out;
}

Vector where_linked(const Vector& values, const std::vector<int>& channels) {
  Vector out = values;
  for (size_t i = 0; i < channels.size(); ++i)
    if (channels[i] < 0) out(static_cast<Eigen::Index>(i)) = 0;
  return out;
}

Tensor weight_of(const Operand& w) {
  return torch::from_blob(const_cast<float*>(w.values.data()), {w.rows, w.height, w.width, w.channels})
      .permute({0, 3, 1, 2})
      .contiguous();
}

Tensor per_channel(const Tensor& v) { return v.view({1, -1, 1, 1}); }

std::vector<const LayerCase*> layers_from(const LayerCase& first) {
  std::vector<const LayerCase*> layers;
  for (const LayerCase* layer = &first; layer != nullptr; layer = layer->next) layers.push_back(layer);
  return layers;
}

/// What the worker is never sent: norm and shortcut of the last block, and the head.
struct Head : torch::nn::Module {
  Head(int64_t channels, int64_t shortcuts, int64_t classes) {
    scale = register_parameter("scale", torch::full({channels}, 0.7));
    shift = register_parameter("shift", torch::zeros({channels}));
    mix = register_parameter("mix", torch::zeros({channels, shortcuts}));
    linear = register_module("linear", torch::nn::Linear(channels, classes));
  }
  /// @param features standardised by the moments that `calibrate` took.
  Tensor forward(const StolenNetwork::Features& f) {
    const Tensor y = (f.y - per_channel(mean)) / per_channel(deviation) * per_channel(scale) + per_channel(shift);
    const Tensor s = torch::conv2d(f.shortcut / shortcut_size, mix.view({mix.size(0), mix.size(1), 1, 1}));
    return linear->forward(torch::relu(y + s).mean({2, 3}));
  }
  void calibrate(const StolenNetwork::Features& f) {
    mean = f.y.mean({0, 2, 3});
    deviation = f.y.std({0, 2, 3}).clamp_min(1e-12);
    shortcut_size = f.shortcut.pow(2).mean().sqrt().clamp_min(1e-12);
  }
  Tensor scale, shift, mix, mean, deviation, shortcut_size;
  torch::nn::Linear linear{nullptr};
};

StolenNetwork::Features rows_of(const StolenNetwork::Features& f, const Tensor& rows) {
  return {f.y.index_select(0, rows), f.shortcut.index_select(0, rows)};
}

StolenNetwork::Features joined(const std::vector<StolenNetwork::Features>& parts) {
  std::vector<Tensor> y, shortcut;
  for (const auto& part : parts) {
    y.push_back(part.y);
    shortcut.push_back(part.shortcut);
  }
  return {torch::cat(y), torch::cat(shortcut)};
}

/// Adam with a rate that falls to zero; the features stay as they are.
void train_head(Head& head, const StolenNetwork::Features& features, const Tensor& labels,
                const SurrogateOptions& options) {
  constexpr double kRate = 1e-2, kDecay = 1e-4;
  constexpr int64_t kRows = 100;
  const int64_t steps = options.head_steps;
  torch::optim::Adam optimiser(head.parameters(), torch::optim::AdamOptions(kRate).weight_decay(kDecay));
  const int64_t rows = std::min(kRows, labels.numel());
  Random random(1);
  std::uniform_int_distribution<int64_t> any(0, labels.numel() - 1);
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<int64_t> chosen(static_cast<size_t>(rows));
    for (int64_t& row : chosen) row = any(random);
    const Tensor index = torch::tensor(chosen);
    const double share = static_cast<double>(step) / static_cast<double>(steps);
    static_cast<torch::optim::AdamOptions&>(optimiser.param_groups().front().options())
        .lr(kRate * 0.5 * (1 + std::cos(M_PI * share)));
    optimiser.zero_grad();
    F::cross_entropy(head.forward(rows_of(features, index)), labels.index_select(0, index)).backward();
    optimiser.step();
  }
}

}  // namespace

std::optional<StolenNetwork> StolenNetwork::from(const LayerCase& first, const train::Dataset& data, Random& random) {
  const std::vector<const LayerCase*> cases = layers_from(first);
  if (cases.size() < 2 || first.knowledge.images.empty()) return std::nullopt;
  const LayerChain chain = follow_layers(cases, random);
  if (chain.images() == 0) return std::nullopt;
  const auto mixed = recover_first_layer(chain.layers.front().x, random);
  if (!mixed) return std::nullopt;
  const FirstLayer layer = in_colours(*mixed, match_colours(mixed->images, maps_of(first.knowledge.images), random));

  StolenNetwork network;
  // Kernels over grey levels become kernels over normalised values: grey = 255 (deviation v + mean).
  const Eigen::Index channels = layer.kernels.rows();
  network.first_kernels_ = torch::zeros({channels, 3, 3, 3});
  network.first_bias_ = torch::zeros({channels});
  auto kernels = network.first_kernels_.accessor<float, 4>();
  for (Eigen::Index c = 0; c < channels; ++c) {
    if (!layer.is_known[static_cast<size_t>(c)]) continue;
    double bias = layer.bias(c);
    for (int tap = 0; tap < 9; ++tap)
      for (int q = 0; q < 3; ++q) {
        const double kernel = 255 * layer.kernels(c, tap * 3 + q);
        kernels[c][q][tap / 3][tap % 3] = static_cast<float>(kernel * data.stddev[static_cast<size_t>(q)]);
        bias += kernel * data.mean[static_cast<size_t>(q)];
      }
    network.first_bias_[c] = bias;
  }
  for (size_t i = 0; i < chain.layers.size(); ++i) {
    Layer one;
    one.weight = weight_of(chain.layers[i].w);
    one.stride = chain.layers[i].stride;
    one.adds_shortcut = chain.layers[i].adds_shortcut;
    if (i + 1 < chain.layers.size()) {
      const ChannelLinks& links = chain.layers[i + 1].links;
      one.from = channels_of(links.from);
      one.shortcut = channels_of(links.shortcut);
      one.a = vector_of(where_linked(links.a, links.from));
      one.b = vector_of(where_linked(links.b, links.from));
      one.k = vector_of(where_linked(links.k, links.shortcut));
    }
    network.layers_.push_back(std::move(one));
  }
  return network;
}

StolenNetwork::Features StolenNetwork::features(const Tensor& images) const {
  Tensor x = torch::relu(torch::conv2d(images, first_kernels_, first_bias_, 1, 1));
  Tensor block_input = x, y;
  int64_t block_stride = 1;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    if (i % 2 == 0) {  // the first layer of a basic block
      block_input = x;
      block_stride = layer.stride;
    }
    y = torch::conv2d(x, layer.weight, {}, layer.stride, 1);
    if (!layer.from.defined()) break;
    x = y.index_select(1, layer.from) * per_channel(layer.a) + per_channel(layer.b);
    if (layer.adds_shortcut) {
      const Tensor kept =
          block_input.slice(2, 0, block_input.size(2), block_stride).slice(3, 0, block_input.size(3), block_stride);
      x = x + kept.index_select(1, layer.shortcut) * per_channel(layer.k);
    }
    x = torch::relu(x);
  }
  return {y, block_input};
}

SurrogateResult steal_network(const StealTarget& target, const std::string& start_from, const StolenNetwork& network,
                              const Budget& budget, const SurrogateOptions& options) {
  const BatchedImages known = all_images(budget.images);
  const Tensor labels = budget_labels(target, budget, known);
  const auto features_of = [&](const Tensor& images) {
    const torch::NoGradGuard no_grad;
    std::vector<StolenNetwork::Features> parts;
    for (int64_t i = 0; i < images.size(0); i += kBatch)
      parts.push_back(network.features(images.slice(0, i, std::min(i + kBatch, images.size(0)))));
    return joined(parts);
  };
  // Each image also mirrored: what it shows is the same.
  const StolenNetwork::Features features =
      joined({features_of(known.images), features_of(known.images.flip(3).contiguous())});
  const int64_t classes = static_cast<int64_t>(target.test.class_names.size());
  torch::manual_seed(1);
  Head head(features.y.size(1), features.shortcut.size(1), classes);
  head.calibrate(features);
  train_head(head, features, torch::cat({labels, labels}), options);
  const Classifier surrogate = [&](const Tensor& images) { return head.forward(network.features(images)); };
  return judge(target, start_from, budget.name, surrogate, options);
}

}  // namespace tempo::audit
