#include "audit/theft/feature_maps.h"

#include <algorithm>

namespace tempo::audit {

FeatureMaps maps_of(const Operand& images) {
  FeatureMaps maps(images.rows, images.channels, images.height, images.width);
  for (int64_t i = 0; i < images.rows; ++i)
    for (int64_t c = 0; c < images.channels; ++c)
      for (int64_t p = 0; p < images.positions(); ++p) maps.map(i, c)[p] = images.at(i, p, c);
  return maps;
}

FeatureMaps take_images(const FeatureMaps& maps, const std::vector<int64_t>& images) {
  FeatureMaps out(static_cast<int64_t>(images.size()), maps.channels, maps.height, maps.width);
  for (size_t i = 0; i < images.size(); ++i)
    std::copy_n(maps.map(images[i], 0), maps.channels * maps.pixels(), out.map(static_cast<int64_t>(i), 0));
  return out;
}

FeatureMaps subsampled(const FeatureMaps& maps, int64_t stride) {
  FeatureMaps out(maps.images, maps.channels, (maps.height + stride - 1) / stride, (maps.width + stride - 1) / stride);
  for (int64_t i = 0; i < maps.images; ++i)
    for (int64_t c = 0; c < maps.channels; ++c)
      for (int64_t y = 0; y < out.height; ++y)
        for (int64_t x = 0; x < out.width; ++x)
          out.map(i, c)[y * out.width + x] = maps.map(i, c)[y * stride * maps.width + x * stride];
  return out;
}

}  // namespace tempo::audit
