/// Plain tensors in the shape of blinded ones: cut into tiles, under no key.
#pragma once

#include "audit/operand.h"
#include "obfuscation/blind.h"
#include "obfuscation/tile_geometry.h"

namespace tempo::audit {

inline Operand shaped_like(const obfuscation::TileGeometry& g) {
  if (g.mixes_positions) return {g.rows(), 1, 1, g.key_channels()};
  return {g.rows(), g.tile_h, g.tile_w, g.channels};
}

/// Decoys, the last images of a geometry, if they are not part of the tensor.
struct DecoyImages {
  int64_t images = 0;
  const float* pixels = nullptr;  ///< [images, height, width, channels]
};

/// @param plain [images, height, width, channels] of the geometry, less decoys.
Operand plain_tiles(const float* plain, const obfuscation::TileGeometry& geometry, const DecoyImages& decoys = {});

}  // namespace tempo::audit
