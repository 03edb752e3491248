#include "base/progress_line.h"

#include <gmock/gmock.h>

// How often and what is drawn: tests/train/progress_test.cpp, over its first user.
namespace tempo {
namespace progress_line_test {

using ::testing::HasSubstr;

TEST(FitProgressLine, ANarrowLineShrinksTheBarThenDropsItThenBecomesBriefThenIsCut) {
  const std::vector<ProgressPart> parts{{"5/10", ""}, {"loss 1.0", "loss 1"}};
  EXPECT_EQ(fit_progress_line(0.5, parts, 120), " 50% [####################....................] 5/10  loss 1.0");
  EXPECT_EQ(fit_progress_line(0.5, parts, 32), " 50% [#####.....] 5/10  loss 1.0");
  EXPECT_EQ(fit_progress_line(0.5, parts, 29), " 50% 5/10  loss 1.0");
  EXPECT_EQ(fit_progress_line(0.5, parts, 19), " 50% 5/10  loss 1.0");
  EXPECT_EQ(fit_progress_line(0.5, parts, 18), " 50% loss 1");
  EXPECT_EQ(fit_progress_line(0.5, parts, 8), " 50% los");
  EXPECT_EQ(fit_progress_line(0.5, parts, 0), "");
  EXPECT_EQ(fit_progress_line(0.5, parts, -3), "");
  for (int width = 0; width < 100; ++width)
    for (const double fraction : {-1.0, 0.0, 0.999, 1.0, 7.0})
      EXPECT_LE(fit_progress_line(fraction, parts, width).size(), static_cast<size_t>(width));
  EXPECT_THAT(fit_progress_line(1.0, parts, 32), HasSubstr("100% [##########]"));
}

}  // namespace progress_line_test
}  // namespace tempo
