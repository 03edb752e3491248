/// Activations as images again: what laying out the rows of an operand gives.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "audit/operand.h"

namespace tempo::audit {

/// [images, channels, height, width], row-major. A pixel that is not known is not a number.
struct FeatureMaps {
  int64_t images = 0, channels = 0, height = 0, width = 0;
  std::vector<double> values;

  FeatureMaps() = default;
  FeatureMaps(int64_t n, int64_t c, int64_t h, int64_t w)
      : images(n),
        channels(c),
        height(h),
        width(w),
        values(static_cast<size_t>(n * c * h * w), std::numeric_limits<double>::quiet_NaN()) {}

  [[nodiscard]] int64_t pixels() const { return height * width; }
  /// The `pixels()` values of one map.
  [[nodiscard]] double* map(int64_t image, int64_t channel) {
    return values.data() + (image * channels + channel) * pixels();
  }
  [[nodiscard]] const double* map(int64_t image, int64_t channel) const {
    return values.data() + (image * channels + channel) * pixels();
  }
};

/// Images as maps: [images, colours, height, width].
FeatureMaps maps_of(const Operand& images);

/// The given images of `maps`, in the given order.
FeatureMaps take_images(const FeatureMaps& maps, const std::vector<int64_t>& images);

/// Every `stride`-th pixel of every map, in both directions.
FeatureMaps subsampled(const FeatureMaps& maps, int64_t stride);

}  // namespace tempo::audit
