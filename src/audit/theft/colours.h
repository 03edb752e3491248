/// The true colours of images that are known up to a mix of colours (attack 19).
#pragma once

#include "audit/algebra/matching.h"
#include "audit/theft/feature_maps.h"

namespace tempo::audit {

/// colour = matrix * mixed colour + offset
struct ColourMap {
  Matrix matrix;  ///< [3, 3]
  Vector offset;  ///< [3]
};

/// The map after which the mixed images look most like other images. It compares colours and their steps from pixel to
/// pixel, and how bright the upper half and the smooth parts of an image are, which a negative gets wrong. Lines of one
/// colour along the edges of many images count as the black that the usual augmentation shifts in.
/// @param mixed, others  [images, 3, height, width]. The identity if either has too few pixels that are plausible.
ColourMap match_colours(const FeatureMaps& mixed, const FeatureMaps& others, Random& random);

/// The least-squares map from mixed to true colours: what an attacker could do who knew the colours.
ColourMap known_colours(const FeatureMaps& mixed, const FeatureMaps& truth);

}  // namespace tempo::audit
