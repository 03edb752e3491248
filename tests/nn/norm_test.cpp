#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>
#include <vector>

#include "nn/kernels/narrow.h"
#include "nn/kernels/norm_act.h"
#include "nn/layers.h"
#include "obfuscation/blind.h"

namespace tempo::nn {
namespace norm_test {

struct Result {
  torch::Tensor y, dx, dresidual, dweight, dbias, mean, variance;
};

torch::Tensor random(at::IntArrayRef shape, double mean, torch::ScalarType type) {
  torch::Tensor x = torch::randn(shape, torch::kFloat64) * 2 + mean;
  if (shape.size() == 4) x = x.contiguous(at::MemoryFormat::ChannelsLast);
  return x.to(type);
}

/// One call and its gradients; float32 takes the fused path, float64 LibTorch's.
Result run(torch::ScalarType type, at::IntArrayRef shape, double mean, bool relu, bool with_residual, bool training,
           torch::ScalarType kept = torch::kFloat32) {
  torch::manual_seed(1);
  BatchNorm2d norm(shape[1]);
  norm->kept = kept;
  const torch::NoGradGuard outside;
  norm->weight.copy_(torch::randn({shape[1]}));
  norm->bias.copy_(torch::randn({shape[1]}));
  norm->running_mean.fill_(mean);
  const torch::Tensor x = random(shape, mean, type),
                      residual = with_residual ? random(shape, 0, type) : torch::Tensor();
  const torch::Tensor dy = random(shape, 0.1, type);
  norm->to(type);
  norm->train(training);
  const auto activation = relu ? Activation::kRelu : Activation::kNone;
  Result result;
  if (!training) {
    result.y = norm->forward(x, activation, residual);
    return result;
  }
  const torch::AutoGradMode with_gradients(true);
  torch::Tensor a = x.detach().requires_grad_(), b = with_residual ? residual.detach().requires_grad_() : residual;
  result.y = norm->forward(a, activation, b);
  result.y.backward(dy);
  result.dx = a.grad();
  if (with_residual) result.dresidual = b.grad();
  result.dweight = norm->weight.grad();
  result.dbias = norm->bias.grad();
  result.mean = norm->running_mean;
  result.variance = norm->running_var;
  return result;
}

void expect_close(const torch::Tensor& got, const torch::Tensor& expected, const char* what, double bound = 1e-5) {
  ASSERT_EQ(got.defined(), expected.defined()) << what;
  if (!got.defined()) return;
  ASSERT_EQ(got.sizes(), expected.sizes()) << what;
  const double error = (got.to(torch::kFloat64) - expected).norm().item<double>();
  EXPECT_LE(error, bound * expected.norm().item<double>() + 1e-6) << what;
}

TEST(BatchNorm, FusedPassesMatchLibTorchInFloat64) {
  for (const auto& shape :
       std::vector<std::vector<int64_t>>{{2, 1, 1, 1}, {3, 17, 7, 5}, {4, 64, 16, 16}, {5, 130, 9, 9}})
    for (const double mean : {0.0, 300.0})
      for (const bool relu : {false, true})
        for (const bool residual : {false, true})
          for (const bool training : {false, true}) {
            SCOPED_TRACE(fmt::format("{} channels, mean {}, relu {}, residual {}, training {}", shape[1], mean, relu,
                                     residual, training));
            if (shape[1] == 1 && mean != 0) continue;  // two values far from zero: rounding of the input decides
            const Result expected = run(torch::kFloat64, shape, mean, relu, residual, training);
            const Result got = run(torch::kFloat32, shape, mean, relu, residual, training);
            // Where the mean is large the inputs' own rounding, 300 * 2^-24, is seen, and may flip a unit near zero.
            if (mean != 0) {
              EXPECT_LE((got.y.to(torch::kFloat64) - expected.y).abs().max().item<double>(), 5e-4);
              continue;
            }
            expect_close(got.y, expected.y, "y");
            expect_close(got.dx, expected.dx, "dx");
            expect_close(got.dresidual, expected.dresidual, "dresidual");
            expect_close(got.dweight, expected.dweight, "dweight");
            expect_close(got.dbias, expected.dbias, "dbias");
            expect_close(got.mean, expected.mean, "running mean");
            expect_close(got.variance, expected.variance, "running variance");
          }
}

/// What waits in bfloat16 has 8 bits: the way forward is that of float32, gradients are close.
TEST(BatchNorm, AnInputKeptInBFloat16ChangesOnlyGradientsAndThoseSlightly) {
  for (const auto& shape : std::vector<std::vector<int64_t>>{{3, 17, 7, 5}, {4, 64, 16, 16}})
    for (const bool relu : {false, true}) {
      const Result expected = run(torch::kFloat32, shape, 0, relu, true, true);
      const Result got = run(torch::kFloat32, shape, 0, relu, true, true, torch::kBFloat16);
      EXPECT_TRUE(torch::equal(got.y, expected.y));
      EXPECT_TRUE(torch::equal(got.dresidual, expected.dresidual));
      EXPECT_TRUE(torch::equal(got.dbias, expected.dbias));
      expect_close(got.dweight, expected.dweight.to(torch::kFloat64), "dweight", 4e-3);
      expect_close(got.dx, expected.dx.to(torch::kFloat64), "dx", 4e-3);
      EXPECT_FALSE(torch::equal(got.dx, expected.dx)) << "float32 was kept";
    }
}

TEST(NarrowKernels, EveryIsaRoundsToBFloat16AsLibTorchDoes) {
  torch::manual_seed(4);
  torch::Tensor x = torch::randn({1003}) * 1e3;
  const float special[] = {0.F, -0.F, INFINITY, -INFINITY, NAN, 3.4e38F, 1e-45F, 1.00390625F, 1.01171875F};
  std::copy(std::begin(special), std::end(special), x.data_ptr<float>());
  const torch::Tensor expected = x.to(torch::kBFloat16);
  for (const auto& isa : obfuscation::supported_isas())
    for (const int64_t count : {int64_t{1}, int64_t{17}, x.numel()}) {
      SCOPED_TRACE(fmt::format("{} {}", isa.name, count));
      torch::Tensor narrow = torch::zeros({count}, torch::kBFloat16), wide = torch::zeros({count});
      const auto& kernels = kernels::narrow_kernels(isa.target);
      kernels.narrow(x.data_ptr<float>(), count, static_cast<uint16_t*>(narrow.data_ptr()));
      kernels.widen(static_cast<const uint16_t*>(narrow.data_ptr()), count, wide.data_ptr<float>());
      const torch::Tensor wanted = expected.slice(0, 0, count).to(torch::kFloat32);
      EXPECT_TRUE(torch::allclose(narrow.to(torch::kFloat32), wanted, 0, 0, true));
      EXPECT_TRUE(torch::allclose(wide, wanted, 0, 0, true));
    }
}

TEST(BatchNorm, ANanInTheInputReachesTheOutput) {
  BatchNorm2d norm(16);
  torch::NoGradGuard outside;
  norm->weight.fill_(1);
  torch::Tensor x = torch::randn({2, 16, 4, 4}).contiguous(at::MemoryFormat::ChannelsLast);
  x[1][3][2][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(norm->forward(x, Activation::kRelu).isfinite().all().item<bool>());
}

TEST(NormActKernels, EveryIsaMatchesTheReference) {
  torch::manual_seed(2);
  for (const auto& isa : obfuscation::supported_isas())
    for (const int64_t rows : {1, 3, 256})
      for (const int64_t channels : {1, 15, 16, 17, 64, 130}) {
        SCOPED_TRACE(fmt::format("{} {}x{}", isa.name, rows, channels));
        const auto& reference = kernels::reference_norm_act_kernels();
        const auto& tested = kernels::norm_act_kernels(isa.target);
        const torch::Tensor x = torch::randn({rows, channels}), r = torch::randn({rows, channels}),
                            g = torch::randn({rows, channels}), k = torch::randn({4, channels});
        const auto f = [](const torch::Tensor& t) { return t.data_ptr<float>(); };
        const auto all = [&](const kernels::NormActKernels& table) {
          torch::Tensor sums = torch::empty({6, channels}), maps = torch::empty({5, rows, channels});
          const kernels::NormRows in{f(x), rows, channels};
          table.sums(in, f(k[0]), f(sums[0]), f(sums[1]));
          std::vector<uint8_t> active(static_cast<size_t>(rows * table.active_bytes(channels)), 0xaa);
          table.apply(in, f(r), {f(k[1]), f(k[2]), true}, f(maps[0]), active.data());
          const auto gradients = [&](const kernels::Active& units) {
            return kernels::NormGradientRows{f(x), units, f(g), rows, channels};
          };
          const kernels::Active bits{.bits = active.data()}, scaled{.scale = f(k[1]), .offset = f(k[2])};
          table.gradient_sums(gradients(bits), f(k[0]), f(sums[2]), f(sums[3]));
          table.gradient_sums(gradients(scaled), f(k[0]), f(sums[4]), f(sums[5]));
          const kernels::NormGradientMap map{f(k[0]), f(k[1]), f(k[2]), f(k[3])};
          table.gradient(gradients(scaled), map, f(maps[3]), nullptr);
          table.gradient(gradients({}), map, f(maps[4]), nullptr);
          table.gradient(gradients(bits), map, f(maps[1]), f(maps[2]));
          return std::pair(sums, maps);
        };
        const auto [sums, maps] = all(tested);
        const auto [expected_sums, expected_maps] = all(reference);
        EXPECT_TRUE(torch::allclose(sums, expected_sums, 1e-4, 1e-3));
        EXPECT_TRUE(torch::allclose(maps, expected_maps, 1e-5, 1e-5));
      }
}

}  // namespace norm_test
}  // namespace tempo::nn
