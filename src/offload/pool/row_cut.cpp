#include "offload/pool/row_cut.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tempo::offload {

std::vector<RowRange> cut_rows(int64_t rows, const std::vector<double>& shares, int64_t unit) {
  const double all = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<RowRange> ranges;
  double before = 0;
  int64_t begin = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    before += shares[i];
    const bool is_last = i + 1 == shares.size();
    const double exact = static_cast<double>(rows) * (before / all) / static_cast<double>(unit);
    const int64_t end = is_last ? rows : std::min<int64_t>(rows, std::llround(exact) * unit);
    ranges.push_back({begin, end});
    begin = end;
  }
  return ranges;
}

}  // namespace tempo::offload
