/// Generated images that a small convolutional network can learn: training without any data set at hand.
#pragma once

#include <cstdint>

#include "train/data/dataset.h"

namespace tempo::train {

/// Ten classes of RGB images [3, side, side]. A class is a slope (five) and a spatial frequency (two) of a grating,
/// the same when mirrored; its phase, colours, contrast, exact angle and frequency, a distracting blob and the noise
/// differ from image to image, so that no single pixel and no colour tells the class. Classes are as even as the sizes
/// allow.
/// @param side 16..256.
/// The same arguments give the same images, of which the first n do not depend on the sizes. Cost: about 0.1 ms an
/// image.
/// @throws InputError if a size is below 1 or `side` out of range.
DataSplits make_synthetic(int64_t train_size, int64_t test_size, uint64_t seed, int64_t side = 32);

}  // namespace tempo::train
