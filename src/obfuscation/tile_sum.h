/// From tiles back to the image, where un-blinding did not put them there itself.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "obfuscation/kernels/kernels.h"
#include "obfuscation/tile_geometry.h"

namespace tempo::obfuscation {

/// x[pixel] = sum of the tile positions that cover it, in a fixed order; zero where there are none.
/// @param tiles [rows, tile_h, tile_w, channels]
/// @param products taken of x on the way; without column sums
template <typename T>
void sum_tiles(const T* tiles, const TileGeometry& geometry, const kernels::Kernels<T>& kernels, T* x,
               const kernels::RowProducts<T>& products, ThreadPool& threads);

/// Zeroes the pixels of x that no tile covers. Costs nothing where every pixel is covered.
template <typename T>
void zero_uncovered(const TileGeometry& geometry, T* x, ThreadPool& threads);

}  // namespace tempo::obfuscation
