/// Whole images from the rows of a worker's X~, where rows are only moved and scaled (attack 17).
#pragma once

#include <cstdint>
#include <vector>

#include "audit/attack.h"
#include "audit/case.h"
#include "audit/theft/feature_maps.h"

namespace tempo::audit {

/// Where the rows of one operand go.
struct ImageLayout {
  struct Image {
    std::vector<int64_t> row;   ///< by tile, row-major; -1: not found
    std::vector<double> scale;  ///< of that row, with its sign; relative to the image's other rows
  };
  std::vector<Image> images;
  Vector channel_signs;  ///< +1 or -1
};

/// Signs of rows and columns from the signs of X~: X >= 0, so they are of rank one.
struct RankOneSigns {
  std::vector<float> rows;
  Vector channels;
};
RankOneSigns rank_one_signs(const Operand& x, Random& random);

/// Lays out the first recorded step of a layer. Images of which less than half the tiles hang together are left out.
ImageLayout lay_out_images(const LayerCase& layer, Random& random);

/// X of the laid-out images, up to a factor for each image and each channel: [images, in, height, width].
FeatureMaps input_maps(const LayerCase& layer, const ImageLayout& layout);
/// Y likewise; a channel's factor may be negative.
FeatureMaps output_maps(const LayerCase& layer, const ImageLayout& layout);

}  // namespace tempo::audit
