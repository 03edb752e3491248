#include "train/formats/progress.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>

namespace tempo::train {
namespace progress_test {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

/// A Progress that writes to memory and whose time the test sets.
class ProgressTest : public ::testing::Test {
 protected:
  ~ProgressTest() override {
    progress_.reset();
    if (stream_ != nullptr) std::fclose(stream_);
    std::free(text_);
  }
  Progress& start(int64_t total_steps, bool terminal) {
    stream_ = ::open_memstream(&text_, &size_);
    progress_ = std::make_unique<Progress>(total_steps, terminal, stream_, [this] { return now_; });
    return *progress_;
  }
  std::string output() {
    std::fflush(stream_);
    return {text_, size_};
  }
  std::vector<std::string> lines() {
    std::vector<std::string> found;
    const std::string text = output();
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      found.push_back(text.substr(begin, end - begin));
      begin = end == std::string::npos ? text.size() : end + 1;
    }
    return found;
  }

  double now_ = 100;
  std::FILE* stream_ = nullptr;
  char* text_ = nullptr;
  size_t size_ = 0;
  std::unique_ptr<Progress> progress_;
};

TEST_F(ProgressTest, PlainOutputHasALineEveryFivePercent) {
  Progress& progress = start(1000, false);
  for (int64_t step = 1; step <= 1000; ++step) {
    now_ += 0.01;
    progress.step({.step = step, .loss = 1.5, .samples_per_second = 512});
  }
  const auto found = lines();
  ASSERT_EQ(found.size(), 21U);
  EXPECT_EQ(found.front(), "  0% 1/1000  loss 1.5000  512 samples/s  --:-- left");
  EXPECT_EQ(found[10], " 50% 500/1000  loss 1.5000  512 samples/s  0:05 left");
  EXPECT_EQ(found.back(), "100% 1000/1000  loss 1.5000  512 samples/s  0:00 left");
  EXPECT_EQ(output().find('\x1b'), std::string::npos);
}

TEST_F(ProgressTest, PlainOutputOfASlowRunHasALineEveryTenSeconds) {
  Progress& progress = start(1'000'000, false);
  for (int64_t step = 1; step <= 100; ++step) {
    now_ += 1;
    progress.step({.step = step, .loss = 0.25, .samples_per_second = 1.234});
  }
  EXPECT_EQ(lines().size(), 10U);  // steps 1, 11, ..., 91
  EXPECT_EQ(lines()[1], "  0% 11/1000000  loss 0.2500  1.23 samples/s  277:46:29 left");
}

TEST_F(ProgressTest, NotesAlwaysAppear) {
  Progress& progress = start(100, false);
  progress.note("before");
  progress.step({.step = 1, .loss = 1, .samples_per_second = 1});
  progress.note("epoch 1: accuracy 50%");
  EXPECT_EQ(lines().front(), "before");
  EXPECT_EQ(lines().back(), "epoch 1: accuracy 50%");
}

TEST_F(ProgressTest, TerminalRedrawsOneLineAtMostTenTimesASecond) {
  Progress& progress = start(1000, true);
  for (int64_t step = 1; step <= 500; ++step) {
    now_ += 0.01;
    progress.step({.step = step, .loss = 1.5, .samples_per_second = 512});
  }
  const std::string text = output();
  EXPECT_THAT(text, StartsWith("\r\x1b[K  0% [...."));
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto draws = std::count(text.begin(), text.end(), '\r');
  EXPECT_GE(draws, 40);
  EXPECT_LE(draws, 51);

  progress.note("epoch 1 done");
  EXPECT_THAT(output(), HasSubstr("\r\x1b[Kepoch 1 done\n\r\x1b[K 50% ["));
  progress_.reset();
  EXPECT_TRUE(output().ends_with("0:05 left\n"));
}

TEST_F(ProgressTest, TerminalLineFitsEightyColumnsIfTheWidthIsUnknown) {
  Progress& progress = start(123456789, true);
  progress.step({.step = 1234567, .loss = 12345.6789, .samples_per_second = 123456});
  EXPECT_LE(output().size() - 4, 79U);  // without "\r\x1b[K"
}

TEST_F(ProgressTest, ALineSaysAccuracyAndWorkersOnceTheyAreKnown) {
  Progress& progress = start(1000, false);
  progress.step({.step = 1, .loss = 1, .samples_per_second = 512, .workers = 1});
  progress.step({.step = 1000, .loss = 1, .samples_per_second = 512, .accuracy = 0.4511, .workers = 2});
  EXPECT_EQ(lines().front(), "  0% 1/1000  loss 1.0000  512 samples/s  1 worker  --:-- left");
  EXPECT_THAT(lines().back(), HasSubstr("1000/1000  loss 1.0000  acc 45.1%  512 samples/s  2 workers  0:00 left"));
}

TEST(StepProgressParts, ALineOfSixtyColumnsShowsAllPartsButTheCountOfSteps) {
  const auto parts =
      progress_parts({.step = 123456, .loss = 12.3456, .samples_per_second = 12345, .accuracy = 0.9999, .workers = 16},
                     1234567, "11:22:33");
  EXPECT_EQ(fit_progress_line(0.42, parts, 59), " 42% loss 12.35 acc 100.0% 12345/s 16 workers 11:22:33 left");
}

TEST_F(ProgressTest, NothingIsDrawnBeforeTheFirstStep) {
  start(10, true);
  progress_.reset();
  EXPECT_EQ(output(), "");
}

TEST_F(ProgressTest, AResumedRunEstimatesFromItsOwnSteps) {
  Progress& progress = start(1000, false);
  progress.step({.step = 900, .loss = 1, .samples_per_second = 1});
  now_ += 10;
  progress.step({.step = 950, .loss = 1, .samples_per_second = 1});
  EXPECT_THAT(lines().back(), HasSubstr("950/1000  loss 1.0000  1.00 samples/s  0:10 left"));
}

TEST_F(ProgressTest, ALossThatIsNotFiniteIsShownAsSuch) {
  Progress& progress = start(10, false);
  progress.step({.step = 1, .loss = std::nan(""), .samples_per_second = 1});
  EXPECT_THAT(output(), HasSubstr("loss nan"));
}

}  // namespace progress_test
}  // namespace tempo::train
