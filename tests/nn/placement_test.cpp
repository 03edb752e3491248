#include "nn/placement.h"

#include <gtest/gtest.h>

namespace tempo::nn {
namespace placement_test {

Plan plan_of(const std::string& name, const BlindingOptions& blinding, const MachineModel& machine = {}) {
  const ModelOptions options{.name = name};
  const auto model = make_model(options);
  return make_plan(*model, options, {32, blinding, OffloadPolicy::kAuto, machine});
}

int64_t offloaded(const Plan& plan, const std::string& ending) {
  return std::count_if(plan.layers.begin(), plan.layers.end(), [&](const LayerPlan& layer) {
    return layer.name.ends_with(ending) && layer.placement == Placement::kWorker;
  });
}

const BlindingOptions kPermutedReturned = {.protection = "permuted", .weights = WeightPlacement::kReturned};

/// Every head of every image has keys of its own: more to draw than there is to compute over short sequences.
TEST(Placement, ProductsOfActivationsStayInTheTeeAndProductsWithWeightsLeave) {
  const Plan plan = plan_of("vit_base", kPermutedReturned);
  EXPECT_EQ(offloaded(plan, ".scores"), 0);
  EXPECT_EQ(offloaded(plan, ".values"), 0);
  EXPECT_EQ(offloaded(plan, ".qkv"), 12);
  EXPECT_EQ(offloaded(plan, ".fc1"), 12);
}

TEST(Placement, LayersThatCostMoreToMixThanToComputeStayInTheTee) {
  const Plan permuted = plan_of("resnet50", kPermutedReturned);
  const Plan rotated = plan_of("resnet50", {});
  EXPECT_EQ(permuted.offloaded_layers(), static_cast<int64_t>(permuted.layers.size()) - 2);  // first and last stay
  EXPECT_LT(rotated.offloaded_layers(), permuted.offloaded_layers());
  EXPECT_EQ(offloaded(rotated, "layer1.0.conv1"), 0);
  EXPECT_EQ(offloaded(rotated, "layer4.0.conv2"), 1);
  EXPECT_LT(rotated.tee_seconds(), rotated.local_seconds());
}

/// What the program of before rates were measured printed for these.
TEST(Placement, TheBuiltInRatesGiveAPlanThatDoesNotDependOnTheMachine) {
  const Plan rotated = plan_of("resnet50", {.weights = WeightPlacement::kResident});
  EXPECT_EQ(rotated.offloaded_layers(), 41);
  EXPECT_NEAR(rotated.local_seconds(), 4.112, 5e-4);
  EXPECT_NEAR(rotated.tee_seconds(), 2.554, 5e-4);
  const Plan permuted = plan_of("resnet50", kPermutedReturned);
  EXPECT_EQ(permuted.offloaded_layers(), 52);
  EXPECT_NEAR(permuted.tee_seconds(), 1.156, 5e-4);
}

TEST(Placement, ConvolutionsAndProductsOfMatricesHaveRatesOfTheirOwn) {
  const TeeRates slow_convolutions = {.conv_flops_per_second = 1e9}, slow_products = {.flops_per_second = 1e9};
  const double built_in = plan_of("resnet50", {}).local_seconds();
  EXPECT_GT(plan_of("resnet50", {}, {.tee = slow_convolutions}).local_seconds(), 10 * built_in);
  EXPECT_LT(plan_of("resnet50", {}, {.tee = slow_products}).local_seconds(), 1.1 * built_in);
  EXPECT_EQ(plan_of("resnet50", {}, {.tee = slow_convolutions}).offloaded_layers(), 52) << "all but first and last";
}

TEST(Placement, PredictedTimeIncludesVerificationAndTheOptimiser) {
  const double verified = plan_of("resnet50", kPermutedReturned).tee_seconds();
  EXPECT_LT(plan_of("resnet50", kPermutedReturned, {.verifies = false}).tee_seconds(), verified);
  EXPECT_GT(plan_of("resnet50", kPermutedReturned, {.optimiser_bytes_per_parameter = 28}).tee_seconds(), verified);
}

}  // namespace placement_test
}  // namespace tempo::nn
