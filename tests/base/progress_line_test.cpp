#include "base/progress_line.h"

#include <gmock/gmock.h>

// How often and what is drawn: tests/train/progress_test.cpp, over its first user.
namespace tempo {
namespace {

using ::testing::HasSubstr;

TEST(FitProgressLine, ANarrowLineShrinksTheBarThenDropsItThenCutsTheText) {
  const std::string text = "5/10  loss 1.0";
  EXPECT_EQ(fit_progress_line(0.5, text, 120), " 50% [####################....................] " + text);
  EXPECT_EQ(fit_progress_line(0.5, text, 32), " 50% [#####.....] " + text);
  EXPECT_EQ(fit_progress_line(0.5, text, 29), " 50% " + text);
  EXPECT_EQ(fit_progress_line(0.5, text, 10), " 50% 5/10 ");
  EXPECT_EQ(fit_progress_line(0.5, text, 0), "");
  EXPECT_EQ(fit_progress_line(0.5, text, -3), "");
  for (int width = 0; width < 100; ++width)
    for (const double fraction : {-1.0, 0.0, 0.999, 1.0, 7.0})
      EXPECT_LE(fit_progress_line(fraction, text, width).size(), static_cast<size_t>(width));
  EXPECT_THAT(fit_progress_line(1.0, text, 32), HasSubstr("100% [##########]"));
}

}  // namespace
}  // namespace tempo
