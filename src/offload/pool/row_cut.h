/// How the rows of an operand are cut over workers.
#pragma once

#include <cstdint>
#include <vector>

#include "obfuscation/tile_geometry.h"

namespace tempo::offload {

using obfuscation::RowRange;

/// Cuts `rows` into neighbouring ranges, one a share, in proportion: off by less than one row. Some may be empty.
/// @param shares not negative, with a positive sum.
std::vector<RowRange> cut_rows(int64_t rows, const std::vector<double>& shares);

}  // namespace tempo::offload
