/// A network put together from what a worker sees of its layers, where rows are only moved and scaled (attack 18).
/// Between two convolutions a network computes  x' = max(0, a y + k s + b)  channel by channel: a and b are the batch
/// norm, s is the shortcut. Where x' > 0 this is linear, so a fit confirms which y and which s belong to x', and what
/// is left of all scales is one factor for each image and each channel.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "audit/attack.h"
#include "audit/case.h"
#include "audit/theft/feature_maps.h"

namespace tempo::audit {

/// How the input channels of a layer follow from what earlier layers put out. By input channel.
struct ChannelLinks {
  std::vector<int> from;      ///< output channel of the layer before; -1: none fits
  std::vector<int> shortcut;  ///< input channel of the layer before, which is added; -1: nothing is added
  Vector a, k, b;   ///< of  x' = max(0, a y + k s + b), in the worker's units and with factors of images undone
  Vector residual;  ///< of the fit over positive entries, relative: median over images; 1 where none fits
};

/// One layer of the chain: the images of all layers are in one order, and factors of images are undone.
struct ChainedLayer {
  FeatureMaps x, y;
  Operand w;  ///< W~ with the signs of its input channels undone: y = w * x holds for these x and y
  int64_t stride = 1;
  bool adds_shortcut = false;  ///< the layer after reads the sum of this layer's norm and of this layer's block input
  std::vector<int64_t> first_row;  ///< by image: a row of X~ that was laid out into it, for scoring
  ChannelLinks links;              ///< to the layer before; empty for the first layer
};

struct LayerChain {
  std::vector<ChainedLayer> layers;
  [[nodiscard]] int64_t images() const { return layers.empty() ? 0 : layers.front().x.images; }
};

/// Follows the images and channels of the first recorded step through layers that read one another.
/// @param layers  in order; `adds_shortcut` of each says what comes behind it. Convolutions only.
/// An image is in the chain if it was laid out and recognised in every layer. No image: nothing was recovered.
LayerChain follow_layers(std::span<const LayerCase* const> layers, Random& random);

}  // namespace tempo::audit
