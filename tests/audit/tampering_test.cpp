#include "audit/tampering.h"

#include <gtest/gtest.h>

#include <cmath>

#include "audit/audit.h"
#include "offload/transport/inprocess.h"
#include "train/data/synthetic.h"

namespace tempo::audit {
namespace tampering_test {

TEST(Tampering, ATamperingWorkerAddsTheStatedError) {
  const auto honest = offload::make_inprocess_worker("cpu", 1);
  const auto liar = make_tampering_worker(honest, 0.01);
  const auto put = [&](contract::OperandId id, float value) {
    contract::Buffer buffer = liar->allocate({.type = contract::ElementType::kFloat32, .shape = {8, 8}});
    for (int i = 0; i < 64; ++i) reinterpret_cast<float*>(buffer.data())[i] = value + static_cast<float>(i % 3);
    liar->put(id, buffer);
  };
  put(1, 1);
  put(2, 2);
  const contract::Forward forward{.product = {.kind = contract::ProductKind::kLinear}, .x = 1, .w = 2};
  const contract::Buffer right = honest->submit(forward).get(), wrong = liar->submit(forward).get();
  double error = 0, size = 0;
  for (int i = 0; i < 64; ++i) {
    const double r = reinterpret_cast<const float*>(right.data())[i],
                 w = reinterpret_cast<const float*>(wrong.data())[i];
    error += (w - r) * (w - r);
    size += r * r;
  }
  EXPECT_NEAR(std::sqrt(error / size), 0.01, 1e-4);
}

TEST(Tampering, LargeErrorsChangeAnUnverifiedRunAndAreRefusedByAVerifiedOne) {
  VictimOptions options;
  options.batch_size = 16;
  options.steps = 10;
  options.tee_threads = 1;
  const train::DataSplits data = train::make_synthetic(64, 16, 1, 16);
  const State start = train_plain(options, data, true);
  const auto results = measure_tampering(options, start, data, default_setting(), 4, {0, 3.0});
  ASSERT_EQ(results.size(), 2U);
  EXPECT_FALSE(results[0].is_refused);
  EXPECT_TRUE(results[1].is_refused);
  EXPECT_TRUE(std::isfinite(results[0].final_loss));
  // Other keys alone change the rounding of the loss; a loss that is not finite will do.
  EXPECT_FALSE(std::abs(results[1].final_loss - results[0].final_loss) < 1e-3);
}

}  // namespace tampering_test
}  // namespace tempo::audit
