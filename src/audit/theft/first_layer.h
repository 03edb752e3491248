/// The first layer, which never leaves the TEE, and the images that went into it, from the maps that come out of it
/// (attack 19). Where eight maps are positive over a patch they are linear in some 7 x 7 pixels of three colours, so
/// all such patches lie in a space of 3 x 49 dimensions, which gives the kernels up to a mix of colours; these give the
/// images.
#pragma once

#include <optional>

#include "audit/theft/colours.h"

namespace tempo::audit {

/// A first layer of 3x3 kernels over three colours, with stride 1 and padding 1, followed by a norm and ReLU.
struct FirstLayer {
  Matrix kernels;              ///< [channels, 27], tap by tap and colour by colour: the norm's scale is in them
  Vector bias;                 ///< [channels]
  std::vector<bool> is_known;  ///< by channel: a channel that is hardly ever positive is not recovered
  FeatureMaps images;  ///< [images, 3, height, width], in the same mixed colours; the outermost pixels are uncertain
};

/// @param maps  [images, channels, height, width]: X of the first offloaded layer, factors of images undone.
/// Nothing if too few patches are positive in enough maps, or fewer than six channels live.
std::optional<FirstLayer> recover_first_layer(const FeatureMaps& maps, Random& random);

/// Kernels and bias that compute the same from images in true colours.
FirstLayer in_colours(const FirstLayer& layer, const ColourMap& colours);

/// How many outermost pixels of an image are not to be relied on.
inline constexpr int64_t kUncertainBorder = 2;

}  // namespace tempo::audit
