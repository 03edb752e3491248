// What a transformer does between its products: kernels against their reference, functions against LibTorch.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "nn/kernels/token_ops.h"
#include "nn/token_functions.h"
#include "obfuscation/blind.h"

namespace tempo::nn {
namespace token_test {

using torch::Tensor;

constexpr uint64_t kSeed = 3;

void expect_close(const Tensor& got, const Tensor& expected, double bound, const char* what) {
  ASSERT_EQ(got.defined(), expected.defined()) << what;
  if (!got.defined()) return;
  ASSERT_EQ(got.sizes(), expected.sizes()) << what;
  const double error = (got.to(torch::kFloat64) - expected).norm().item<double>();
  EXPECT_LE(error, bound * expected.to(torch::kFloat64).norm().item<double>() + 1e-6) << what;
}

float* data(const Tensor& t) { return t.data_ptr<float>(); }

/// All that one table makes of the same operands.
std::vector<Tensor> run_all(const kernels::TokenKernels& table, int64_t rows, int64_t width) {
  torch::manual_seed(kSeed);
  const Tensor x = torch::randn({rows, width}) * 3, r = torch::randn({rows, width}), g = torch::randn({rows, width});
  const Tensor weight = torch::randn({width}), bias = torch::randn({width});
  std::vector<Tensor> out;
  const auto map = [&] { return data(out.emplace_back(torch::empty({rows, width}))); };
  const auto columns = [&] { return data(out.emplace_back(torch::empty({width}))); };
  const auto column = [&] { return data(out.emplace_back(torch::empty({rows}))); };
  const kernels::TokenRows from{data(x), rows, width}, gradients{data(g), rows, width};
  table.add(from, data(bias), data(r), map());
  table.add(from, nullptr, nullptr, map());
  table.column_sums(data(x), rows, width, columns());
  float *const mean = column(), *const inverse = column();
  table.layer_norm(from, {data(weight), data(bias), 1e-6f}, map(), mean, inverse);
  for (const float* addend : {static_cast<const float*>(nullptr), static_cast<const float*>(data(r))})
    table.layer_norm_gradient(gradients, {data(x), data(weight), mean, inverse}, addend, {map(), columns(), columns()});
  float* const slope = map();
  table.gelu(from, data(bias), map(), slope);
  table.gelu(from, nullptr, map(), nullptr);
  table.gelu_gradient(gradients, slope, map(), columns());
  float* const y = map();
  table.softmax(data(x), 0.25f, rows, width, y);
  table.softmax_gradient(gradients, y, 0.25f, map());
  return out;
}

TEST(TokenKernels, EveryIsaMatchesTheReference) {
  for (const auto& isa : obfuscation::supported_isas())
    for (const int64_t rows : {int64_t{1}, int64_t{3}, kernels::kTokenRows})
      for (const int64_t width : {2, 7, 8, 15, 16, 17, 65, 130}) {
        SCOPED_TRACE(fmt::format("{} {}x{} seed={}", isa.name, rows, width, kSeed));
        const auto got = run_all(kernels::token_kernels(isa.target), rows, width);
        const auto expected = run_all(kernels::reference_token_kernels(), rows, width);
        // A row of two features is all but constant at times: its deviation, and so its gradient, is ill-conditioned.
        for (size_t i = 0; i < got.size(); ++i)
          expect_close(got[i], expected[i], width == 2 ? 1e-3 : 2e-5, fmt::format("result {}", i).c_str());
      }
}

TEST(TokenKernels, GeluAndItsSlopeAreWithinTheStatedErrorEverywhere) {
  const Tensor x = torch::linspace(-12, 12, 100001).contiguous();
  Tensor y = torch::empty_like(x), slope = torch::empty_like(x);
  kernels::best_token_kernels().gelu({data(x), 1, x.numel()}, nullptr, data(y), data(slope));
  const Tensor exact = x.to(torch::kFloat64), phi = 0.5 * torch::erfc(-exact / std::sqrt(2.0));
  const Tensor density = torch::exp(-exact * exact / 2) / std::sqrt(2 * M_PI);
  const Tensor error = (y.to(torch::kFloat64) - exact * phi).abs() / exact.abs().clamp_min(1);
  EXPECT_LE(error.max().item<double>(), 2e-7);
  EXPECT_LE((slope.to(torch::kFloat64) - phi - exact * density).abs().max().item<double>(), 4e-7);
}

/// A function and its gradients by LibTorch in float64, which takes the general operators, and fused in float32.
void compare(const std::function<Tensor(const std::vector<Tensor>&)>& function, const std::vector<Tensor>& inputs,
             double bound = 1e-5) {
  const auto run = [&](torch::ScalarType type) {
    std::vector<Tensor> leaves, held, results;
    for (const Tensor& input : inputs) {
      leaves.push_back(input.to(type).detach().requires_grad_());
      held.push_back(leaves.back() * 1);  // what is changed in place may not be a leaf
    }
    const Tensor y = function(held);
    torch::manual_seed(kSeed + 1);
    y.backward(torch::randn(y.sizes(), torch::kFloat64).to(type));
    results.push_back(y.detach());
    for (const Tensor& leaf : leaves) results.push_back(leaf.grad());
    return results;
  };
  const auto got = run(torch::kFloat32), expected = run(torch::kFloat64);
  for (size_t i = 0; i < got.size(); ++i)
    expect_close(got[i], expected[i], i == 0 ? 1e-5 : bound, fmt::format("{} of inputs", i).c_str());
}

TEST(TokenFunctions, FusedFunctionsMatchLibTorchInFloat64) {
  torch::manual_seed(kSeed);
  const auto random = [](at::IntArrayRef shape) { return torch::randn(shape, torch::kFloat64); };
  for (const int64_t tokens : {1, 5, 65}) {
    SCOPED_TRACE(fmt::format("{} tokens, seed={}", tokens, kSeed));
    compare([](const auto& in) { return add_bias_(in[0], in[1]); }, {random({3, tokens, 24}), random({24})});
    compare([](const auto& in) { return add_bias_(in[0], in[1], in[2]); },
            {random({3, tokens, 24}), random({24}), random({3, tokens, 24})});
    compare([](const auto& in) { return gelu_(in[0], in[1]); }, {random({3, tokens, 40}), random({40})});
    compare(
        [](const auto& in) {
          return layer_norm(in[0], {in[1], in[2], 1e-6});
        },
        {random({3, tokens, 24}), random({24}), random({24})});
    compare(
        [](const auto& in) {
          Tensor skip;
          const Tensor y = layer_norm(in[0], {in[1], in[2], 1e-6}, &skip);
          return 3 * y + skip;
        },
        {random({3, tokens, 24}), random({24}), random({24})});
    compare([](const auto& in) { return softmax_(in[0], 0.3); }, {random({6, tokens, tokens})});
    compare(
        [](const auto& in) {
          const auto [query, key, value] = split_heads(in[0], in[1], 3);
          return query + 2 * key + 3 * value;
        },
        {random({2, tokens, 3 * 12}), random({3 * 12})});
  }
}

/// What waits in bfloat16 has 8 bits: results are those of float32, gradients are close.
TEST(TokenFunctions, ActivationsKeptInBFloat16ChangeGradientsOnlySlightly) {
  torch::manual_seed(kSeed);
  const auto random = [](at::IntArrayRef shape) { return torch::randn(shape, torch::kFloat64); };
  for (const int64_t tokens : {5, 65}) {
    compare([](const auto& in) { return gelu_(in[0], in[1], torch::kBFloat16); },
            {random({3, tokens, 40}), random({40})}, 4e-3);
    compare(
        [](const auto& in) {
          Tensor skip;
          const Tensor y = layer_norm(in[0], {in[1], in[2], 1e-6}, &skip, torch::kBFloat16);
          return 3 * y + skip;
        },
        {random({3, tokens, 24}), random({24}), random({24})}, 4e-3);
  }
}

TEST(TokenFunctions, ANanInTheInputReachesTheOutput) {
  const torch::NoGradGuard no_gradients;
  Tensor x = torch::randn({4, 33});
  x[2][20] = std::numeric_limits<float>::quiet_NaN();
  const auto is_lost = [](const Tensor& y) { return y[2].isfinite().all().item<bool>(); };
  EXPECT_FALSE(is_lost(gelu_(x.clone(), torch::zeros({33}))));
  EXPECT_FALSE(is_lost(layer_norm(x, {torch::ones({33}), torch::zeros({33}), 1e-6})));
  EXPECT_FALSE(is_lost(softmax_(x.clone(), 1)));
}

}  // namespace token_test
}  // namespace tempo::nn
