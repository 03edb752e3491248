/// Tiles that lie side by side in an image share pixels. Where rows are only moved and scaled, the shared pixels of two
/// neighbours are proportional, which no other pair of rows is: that gives the neighbours and the ratio of their
/// scales.
#pragma once

#include <cstdint>
#include <vector>

#include "audit/attack.h"
#include "audit/operand.h"

namespace tempo::audit {

enum class Direction { kRight, kDown };

/// Row `second` lies beside row `first`, in the direction that was asked for.
struct Neighbours {
  int64_t first = 0, second = 0;
  double log_ratio = 0;  ///< log |scale of second| - log |scale of first|
};

/// @param x     the rows of X~, signs of rows and channels undone: entries >= 0 where X is.
/// @param step  pixels between the origins of two tiles. Nothing is found where tiles share no pixel.
/// A pair is reported only if it is the one good match of both rows: flat areas, where many tiles are alike, are left
/// out. Works on float32 and on bf16 operands; which they are is read off the values.
std::vector<Neighbours> find_neighbours(const Operand& x, int64_t step, Direction direction, Random& random);

}  // namespace tempo::audit
