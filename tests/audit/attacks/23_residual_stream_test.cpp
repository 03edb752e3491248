// Two layers that read nearly the same stream have their keys related; two that read different things have not.
#include <gtest/gtest.h>

#include "audit/attacks/attacks.h"
#include "audit/finding_of.h"
#include "audit/synthetic_case.h"

namespace tempo::audit {
namespace attack_23_residual_stream_test {

using testing::run_checked;

/// Three layers in a row, of which the first and the last read the stream.
class Stream {
 public:
  explicit Stream(bool is_same) {
    testing::SyntheticOptions options{
        .images = 64, .tiles_y = 4, .tiles_x = 4, .tile = 1, .in = 16, .out = 4, .steps = 2, .steps_per_key = 2};
    first_ = testing::synthetic_case(options, {.protection = "rotated"});
    options.seed = 2;  // other keys, and other activations of the same kind
    if (!is_same) options.zeros = 0;
    last_ = testing::synthetic_case(options, {.protection = "rotated"});
    if (!is_same)
      for (StepView& view : last_.view)
        for (float& v : view.x.values) v = static_cast<float>(noise_(random_));
    first_.next = &middle_;
    middle_.adds_shortcut = true;
    middle_.next = &last_;
  }
  [[nodiscard]] const LayerCase& first() const { return first_; }

 private:
  Random random_{5};
  std::normal_distribution<double> noise_;
  LayerCase first_, middle_, last_;
};

TEST(ResidualStream, LayersThatReadTheSameStreamAreLinked) {
  const Stream stream(true);
  const Finding finding = run_checked(kResidualStream, stream.first()).front();
  EXPECT_GT(finding.score, 0.9);
  EXPECT_TRUE(finding.beats_chance());
}

TEST(ResidualStream, LayersThatReadUnrelatedValuesAreNot) {
  const Stream stream(false);
  const Finding finding = run_checked(kResidualStream, stream.first()).front();
  EXPECT_TRUE(finding.applicable);
  EXPECT_FALSE(finding.beats_chance());
}

TEST(ResidualStream, ALayerWithoutAnotherReaderIsNotAttacked) {
  EXPECT_FALSE(run_checked(kResidualStream, LayerCase{}).front().applicable);
}

}  // namespace attack_23_residual_stream_test
}  // namespace tempo::audit
