/// Sums tiles back into the image, if un-blinding did not write the image itself.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "obfuscation/kernels/kernels.h"
#include "obfuscation/tile_geometry.h"

namespace tempo::obfuscation {

/// What `sum_tiles` does for each pixel.
template <typename T>
struct PixelSums {
  const kernels::Kernels<T>& kernels;
  kernels::RowProducts<T> products;  ///< computed of x in the same pass, without column sums
};

/// x[pixel] = sum of the tile positions that cover the pixel, in a fixed order; zero if none does.
/// @param tiles [rows, tile_h, tile_w, channels]
template <typename T>
void sum_tiles(const T* tiles, const TileGeometry& geometry, const PixelSums<T>& sums, T* x, ThreadPool& threads);

/// Zeroes the pixels of x that no tile covers. Does nothing if every pixel is covered.
template <typename T>
void zero_uncovered(const TileGeometry& geometry, T* x, ThreadPool& threads);

}  // namespace tempo::obfuscation
