/// What the colours of natural images have in common, whatever the images show (for theft/colours.h).
#pragma once

#include <optional>

#include "audit/algebra/matching.h"
#include "audit/theft/feature_maps.h"

namespace tempo::audit {

inline constexpr int64_t kColours = 3;

Vector pixel_of(const FeatureMaps& maps, int64_t image, int64_t at);

/// Tells pixels of an image from pixels that a solution left free, which lie far from all others.
class Plausible {
 public:
  explicit Plausible(const FeatureMaps& maps);
  bool operator()(const Vector& colour) const;

 private:
  double middle_[kColours]{}, spread_[kColours]{};
};

/// white = whiten (colour - mean) has no mean and unit covariance; unwhiten is its inverse.
struct Whitening {
  Vector mean;
  Matrix whiten, unwhiten;
};

/// Statistics of images in their own white colours, so that two sets of images differ in them by a rotation only.
struct ColourStatistics {
  Whitening white;
  Matrix pixels;  ///< [samples, 3]
  Matrix steps;   ///< [samples, 3]: to the pixel on the right and to the pixel below
  /// [images, 6]: how much brighter the upper half is, and how much brighter the smooth half of the pixels is.
  Matrix tendencies;
  /// The one colour of the lines along the edges, if many images have such lines.
  std::optional<Vector> edge;
};

/// Nothing if too few pixels are plausible. The outermost pixels, into which augmentation shifts, count for `edge`
/// only.
std::optional<ColourStatistics> colour_statistics(const FeatureMaps& maps, Random& random);

}  // namespace tempo::audit
