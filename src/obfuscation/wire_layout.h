/// Where the rows of a blinded operand lie in the memory that a worker reads or writes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "obfuscation/kernels/kernels.h"
#include "tempo/worker.h"

namespace tempo::obfuscation {

/// Rows of a block at one position of the tile. Without panels one block holds all rows.
struct WireBlock {
  std::byte* row_zero = nullptr;  ///< where row 0 would lie if all rows were of this block
  int64_t pitch = 0;              ///< elements between two rows
  kernels::Columns columns;

  /// The offset of a channel within its row, in elements.
  [[nodiscard]] int64_t offset(int64_t channel) const {
    return channel / columns.width * columns.stride + channel % columns.width;
  }
};

/// A blinded operand in memory: rows of channels at all positions, or panels of them (contract::PanelLayout).
struct WireLayout {
  std::byte* data = nullptr;
  int64_t first_row = 0;  ///< number of the row at `data`, the first of a block
  int64_t rows = 0, positions = 1, channels = 0;
  int64_t element_bytes = 0;
  contract::PanelLayout panels = {};

  /// The number of rows in a block, but for a last one that is shorter.
  [[nodiscard]] int64_t rows_per_block() const { return panels.is_set() ? panels.rows : std::max<int64_t>(rows, 1); }
  [[nodiscard]] WireBlock block_of(int64_t row, int64_t position) const {
    const int64_t run = positions * channels;
    if (!panels.is_set()) return {data + (position * channels - first_row * run) * element_bytes, run, {channels, 0}};
    const int64_t first = row / panels.rows * panels.rows, count = std::min(panels.rows, rows - first);
    const int64_t start = (first - first_row) * run + position * channels * count;
    return {data + (start - first * panels.width) * element_bytes, panels.width, {panels.width, count * panels.width}};
  }
};

}  // namespace tempo::obfuscation
