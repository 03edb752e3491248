/// Cuts the rows of an operand into ranges, one for each worker.
#pragma once

#include <cstdint>
#include <vector>

#include "obfuscation/tile_geometry.h"

namespace tempo::offload {

using obfuscation::RowRange;

/// Cuts `rows` into adjacent ranges, one for each share and proportional to it, off by less than one unit. Ranges may
/// be empty.
/// @param shares not negative, with a positive sum. @param unit all cuts are at multiples of it.
std::vector<RowRange> cut_rows(int64_t rows, const std::vector<double>& shares, int64_t unit = 1);

}  // namespace tempo::offload
