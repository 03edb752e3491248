#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "obfuscation/blind.h"
#include "train/kernels/update.h"

namespace tempo::train::kernels {
namespace update_test {

constexpr uint64_t kSeed = 20261126;

std::vector<float> random_values(size_t count, std::mt19937_64& random, bool positive = false) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = positive ? std::abs(normal(random)) : normal(random);
  return values;
}

struct State {
  std::vector<float> weight, first, second;
};

void expect_equal(const std::vector<float>& got, const std::vector<float>& expected, const char* what) {
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], 2e-6 * (1 + std::abs(expected[i]))) << what << " " << i << " seed=" << kSeed;
}

TEST(Update, EveryIsaMatchesTheReference) {
  std::mt19937_64 random(kSeed);
  const SgdStep sgd{.learning_rate = 0.1F, .momentum = 0.9F, .weight_decay = 5e-4F, .gradient_scale = 0.5F};
  const AdamWStep adamw{.keep = 0.999F,
                        .beta1 = 0.9F,
                        .rest1 = 0.1F,
                        .beta2 = 0.999F,
                        .rest2 = 0.001F,
                        .gradient_scale = 0.5F,
                        .rate = 0.01F,
                        .root = 3.0F,
                        .epsilon = 1e-8F};
  for (const size_t count : {1, 7, 8, 9, 16, 33, 1000}) {
    const auto gradient = random_values(count, random);
    const State start{random_values(count, random), random_values(count, random), random_values(count, random, true)};
    const auto after = [&](const UpdateKernels& kernels, bool is_adamw) {
      State state = start;
      const auto n = static_cast<int64_t>(count);
      if (is_adamw)
        kernels.adamw(adamw, gradient.data(), n, state.weight.data(), state.first.data(), state.second.data());
      else
        kernels.sgd(sgd, gradient.data(), n, state.weight.data(), state.first.data());
      return state;
    };
    for (const bool is_adamw : {false, true}) {
      const State expected = after(reference_update_kernels(), is_adamw);
      EXPECT_NE(expected.weight, start.weight);
      for (const auto& isa : obfuscation::supported_isas()) {
        SCOPED_TRACE(isa.name);
        const State got = after(update_kernels(isa.target), is_adamw);
        expect_equal(got.weight, expected.weight, "weight");
        expect_equal(got.first, expected.first, "first moment");
        expect_equal(got.second, expected.second, "second moment");
      }
    }
  }
}

}  // namespace update_test
}  // namespace tempo::train::kernels
