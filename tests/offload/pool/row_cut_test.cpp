#include "offload/pool/row_cut.h"

#include <gtest/gtest.h>

#include <numeric>

namespace tempo::offload {
namespace row_cut_test {

TEST(RowCut, RangesAreProportionalToSharesAndCoverAllRows) {
  for (const int64_t rows : {0, 1, 2, 7, 100, 16384})
    for (const std::vector<double>& shares : {std::vector<double>{1}, {1, 1}, {1, 0, 3}, {0.2, 5, 0.7, 0.1}}) {
      const std::vector<RowRange> ranges = cut_rows(rows, shares);
      ASSERT_EQ(ranges.size(), shares.size());
      const double all = std::accumulate(shares.begin(), shares.end(), 0.0);
      int64_t next = 0;
      for (size_t i = 0; i < ranges.size(); ++i) {
        EXPECT_EQ(ranges[i].begin, next);
        EXPECT_GE(ranges[i].count(), 0);
        EXPECT_NEAR(static_cast<double>(ranges[i].count()), static_cast<double>(rows) * shares[i] / all, 1.01);
        if (shares[i] == 0) EXPECT_EQ(ranges[i].count(), 0);
        next = ranges[i].end;
      }
      EXPECT_EQ(next, rows);
    }
}

}  // namespace row_cut_test
}  // namespace tempo::offload
