/// How the rows of an operand are cut over workers.
#pragma once

#include <cstdint>
#include <vector>

namespace tempo::offload {

/// Rows [begin, end).
struct RowRange {
  int64_t begin = 0, end = 0;

  [[nodiscard]] int64_t count() const { return end - begin; }
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

/// Cuts `rows` into neighbouring ranges, one a share, in proportion: off by less than one row. Some may be empty.
/// @param shares not negative, with a positive sum.
std::vector<RowRange> cut_rows(int64_t rows, const std::vector<double>& shares);

}  // namespace tempo::offload
