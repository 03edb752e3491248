// Blinded products against plain LibTorch: outputs and all gradients, every scheme x reuse x weights x layer shape.
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <string_view>

#include "nn/blinding_cases.h"
#include "nn/offloaded.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace parity_test {

using torch::Tensor;

constexpr int64_t kSeed = 20240131;

double relative_error(const Tensor& got, const Tensor& want) {
  return ((got - want).norm() / want.norm().clamp_min(1e-30)).item<double>();
}

double tolerance(torch::ScalarType type) { return type == torch::kFloat64 ? 1e-8 : 1e-4; }

/// A convolution or (image side 1, kernel 1) linear layer.
struct Shape {
  int64_t images, side_y, side_x, in, out, kernel, stride, padding, dilation = 1;
};

std::string to_string(const Shape& s) {
  return fmt::format("{}x{}x{}x{} -> {} kernel {} stride {} padding {} dilation {}", s.images, s.in, s.side_y, s.side_x,
                     s.out, s.kernel, s.stride, s.padding, s.dilation);
}

// 17 channels, 3 images, 7x5 pixels: nothing a block of 16 or a tile of 4 divides.
const std::vector<Shape> kShapes = {
    {3, 7, 5, 17, 19, 3, 1, 1}, {3, 7, 5, 17, 19, 3, 2, 1},  {4, 8, 8, 16, 32, 3, 1, 1},
    {4, 8, 8, 16, 32, 3, 2, 1}, {2, 9, 9, 5, 3, 5, 2, 2},    {3, 7, 5, 17, 19, 1, 1, 0},
    {3, 7, 5, 17, 19, 1, 2, 0}, {2, 9, 8, 6, 7, 3, 1, 2, 2}, {1, 4, 4, 3, 2, 3, 1, 0},
};

struct Gradients {
  Tensor y, dx, dw, db;
};

template <typename Function>
Gradients run(const Function& function, Tensor x, Tensor w, Tensor b, const Tensor& dy) {
  x = x.detach().requires_grad_();
  w = w.detach().requires_grad_();
  b = b.detach().requires_grad_();
  const Tensor y = function(x, w, b);
  y.backward(dy);
  return {y.detach(), x.grad(), w.grad(), b.grad()};
}

void expect_equal(const Gradients& got, const Gradients& want, double bound) {
  EXPECT_LT(relative_error(got.y, want.y), bound) << "output";
  EXPECT_LT(relative_error(got.dx, want.dx), bound) << "input gradient";
  EXPECT_LT(relative_error(got.db, want.db), bound) << "bias gradient";
  if (got.dw.defined()) {
    EXPECT_LT(relative_error(got.dw, want.dw), bound) << "weight gradient";
  }
}

/// With resident weights the gradient stays on the worker: its norm, and the weight and velocity after two updates,
/// must be those of plain SGD.
void expect_resident_update(BilinearProduct& layer, const Tensor& w, const Tensor& dw, double bound) {
  const auto squared = layer.parameter()->gradient_squared_norm();
  ASSERT_TRUE(squared.has_value());
  const double norm = dw.norm().item<double>();
  EXPECT_NEAR(std::sqrt(*squared), norm, norm * bound);
  const offload::SgdStep step{
      .step = 1, .learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.01, .gradient_scale = 0.5};
  layer.parameter()->step(step);
  const Tensor velocity = 0.5 * dw + 0.01 * w;
  Tensor got_w = torch::empty_like(w), got_v = torch::empty_like(w);
  fetch_resident(layer, got_w, got_v);
  EXPECT_LT(relative_error(got_v, velocity), bound) << "velocity";
  EXPECT_LT(relative_error(got_w, w - 0.1 * velocity), bound) << "updated weight";
}

void check_convolution(const BlindingOptions& options, const Shape& s, torch::ScalarType type) {
  SCOPED_TRACE(
      fmt::format("{} | {} | {} | seed {}", train::describe(options), to_string(s), c10::toString(type), kSeed));
  torch::manual_seed(kSeed);
  const Tensor x = torch::randn({s.images, s.in, s.side_y, s.side_x}, type);
  const Tensor w = torch::randn({s.out, s.in, s.kernel, s.kernel}, type);
  const Tensor b = torch::randn({s.out}, type);
  const auto plain = [&](const Tensor& x_, const Tensor& w_, const Tensor& b_) {
    return torch::conv2d(x_, w_, b_, s.stride, s.padding, s.dilation);
  };
  const Tensor dy = torch::randn_like(plain(x, w, b));
  const auto session = testing::make_session(options);
  const auto layer = std::make_shared<BilinearProduct>(
      *session, "layer", offload::ProductGeometry{s.in, s.out, s.kernel, s.kernel, s.stride, s.padding, s.dilation});
  session->begin_pass({obfuscation::Period::kStep, 5, 0});
  const Gradients want = run(plain, x, w, b, dy);
  const Gradients got =
      run([&](const Tensor& x_, const Tensor& w_, const Tensor& b_) { return offloaded_conv2d(layer, x_, w_, b_); }, x,
          w, b, dy);
  expect_equal(got, want, tolerance(type));
  EXPECT_EQ(got.dw.defined(), !layer->parameter()->keeps_gradient());
  if (layer->parameter()->keeps_gradient()) expect_resident_update(*layer, w, want.dw, tolerance(type));
}

TEST(BilinearProduct, ConvolutionEqualsPlainUnderEverySetting) {
  for (BlindingOptions options : testing::blinding_cases())
    for (const int64_t tile : {1, 4, 0})
      for (const Shape& shape : kShapes)
        for (const auto type : {torch::kFloat32, torch::kFloat64}) {
          options.conv_tile = tile;
          check_convolution(options, shape, type);
        }
}

/// The gradient along the skip connection joins that of the convolution: on the way where keys permute, else after.
TEST(BilinearProduct, GradientOfASkipConnectionEqualsPlainUnderEverySetting) {
  for (const BlindingOptions& options : testing::blinding_cases())
    for (const int64_t kernel : {1, 3})
      for (const int64_t stride : {1, 2})
        for (const auto type : {torch::kFloat32, torch::kFloat64}) {
          SCOPED_TRACE(fmt::format("{} | kernel {} stride {} | {} | seed {}", train::describe(options), kernel, stride,
                                   c10::toString(type), kSeed));
          torch::manual_seed(kSeed);
          const Tensor x = torch::randn({3, 18, 6, 4}, type), w = torch::randn({18, 18, kernel, kernel}, type),
                       b = torch::randn({18}, type);
          const auto joined = [&](const Tensor& y, const Tensor& skip) {
            return y + 2 * skip.slice(2, 0, skip.size(2), stride).slice(3, 0, skip.size(3), stride);
          };
          const auto session = testing::make_session(options);
          const auto layer = std::make_shared<BilinearProduct>(
              *session, "layer", offload::ProductGeometry{18, 18, kernel, kernel, stride, kernel / 2, 1});
          session->begin_pass({obfuscation::Period::kStep, 5, 0});
          const auto plain = [&](const Tensor& x_, const Tensor& w_, const Tensor& b_) {
            return joined(torch::conv2d(x_, w_, b_, stride, kernel / 2), x_);
          };
          const Tensor dy = torch::randn_like(plain(x, w, b));
          const Gradients want = run(plain, x, w, b, dy);
          const auto offloaded = [&](const Tensor& x_, const Tensor& w_, const Tensor& b_) {
            Tensor skip;
            const Tensor y = offloaded_conv2d(layer, x_, w_, b_, {.skip = &skip});
            return joined(y, skip);
          };
          expect_equal(run(offloaded, x, w, b, dy), want, tolerance(type));
        }
}

/// Batches large enough to be cut: rows travel in slices where keys mix no further, and the result is the same.
TEST(BilinearProduct, BatchesSentInSlicesEqualPlainUnderEverySetting) {
  for (BlindingOptions options : testing::blinding_cases())
    for (const auto& [kernel, tile] : {std::pair{1, 1}, {3, 1}, {3, 4}}) {
      options.conv_tile = tile;
      options.slices = 3;
      const Shape shape{tile == 1 ? 5 : 70, 16, 12, 17, 19, kernel, 1, kernel / 2};
      check_convolution(options, shape, torch::kFloat32);
    }
}

TEST(BilinearProduct, LinearEqualsPlainUnderEverySetting) {
  for (const BlindingOptions& options : testing::blinding_cases())
    for (const int64_t rows : {1, 3, 16, 130})
      for (const auto type : {torch::kFloat32, torch::kFloat64}) {
        SCOPED_TRACE(
            fmt::format("{} | {} rows | {} | seed {}", train::describe(options), rows, c10::toString(type), kSeed));
        torch::manual_seed(kSeed);
        const Tensor x = torch::randn({rows, 2, 33}, type), w = torch::randn({17, 33}, type),
                     b = torch::randn({17}, type);
        const Tensor dy = torch::randn({rows, 2, 17}, type);
        const auto session = testing::make_session(options);
        const auto layer =
            std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 33, .out = 17});
        session->begin_pass({obfuscation::Period::kStep, 1, 0});
        const Gradients want =
            run([](const Tensor& x_, const Tensor& w_, const Tensor& b_) { return torch::linear(x_, w_, b_); }, x, w, b,
                dy);
        const Gradients got = run(
            [&](const Tensor& x_, const Tensor& w_, const Tensor& b_) { return offloaded_linear(layer, x_, w_, b_); },
            x, w, b, dy);
        expect_equal(got, want, tolerance(type));
        if (layer->parameter()->keeps_gradient()) expect_resident_update(*layer, w, want.dw, tolerance(type));
      }
}

TEST(BilinearProduct, ProductOfActivationsEqualsPlainUnderEverySetting) {
  for (const BlindingOptions& options : testing::blinding_cases())
    for (const auto type : {torch::kFloat32, torch::kFloat64}) {
      SCOPED_TRACE(fmt::format("{} | {} | seed {}", train::describe(options), c10::toString(type), kSeed));
      torch::manual_seed(kSeed);
      const Tensor a = torch::randn({3, 7, 17}, type), b = torch::randn({3, 17, 9}, type);
      const Tensor dc = torch::randn({3, 7, 9}, type), unused = torch::zeros({1}, type);
      const auto session = testing::make_session(options);
      const auto layer = std::make_shared<BilinearProduct>(*session, "attn.scores");
      session->begin_pass({obfuscation::Period::kStep, 1, 0});
      const auto with_bias = [](const Tensor& c, const Tensor& bias) { return c + bias; };
      const Gradients want =
          run([&](const Tensor& a_, const Tensor& b_, const Tensor& c_) { return with_bias(torch::bmm(a_, b_), c_); },
              a, b, unused, dc);
      const Gradients got = run([&](const Tensor& a_, const Tensor& b_,
                                    const Tensor& c_) { return with_bias(offloaded_matmul(layer, a_, b_), c_); },
                                a, b, unused, dc);
      ASSERT_TRUE(got.dw.defined());
      expect_equal(got, want, tolerance(type));
    }
}

// The gradient against a central difference along a random direction, in float64.
TEST(BilinearProduct, GradientsMatchFiniteDifferences) {
  for (const BlindingOptions& options : testing::blinding_cases()) {
    if (options.weights == WeightPlacement::kResident) continue;  // its weight does not follow the perturbed argument
    SCOPED_TRACE(fmt::format("{} | seed {}", train::describe(options), kSeed));
    torch::manual_seed(kSeed);
    const auto session = testing::make_session(options);
    session->begin_pass({obfuscation::Period::kStep, 1, 0});
    const auto layer =
        std::make_shared<BilinearProduct>(*session, "conv", offload::ProductGeometry{5, 6, 3, 3, 2, 1, 1});
    const auto loss = [&](const Tensor& x, const Tensor& w) { return offloaded_conv2d(layer, x, w, {}).tanh().sum(); };
    Tensor x = torch::randn({2, 5, 7, 6}, torch::kFloat64).requires_grad_();
    Tensor w = torch::randn({6, 5, 3, 3}, torch::kFloat64).requires_grad_();
    loss(x, w).backward();
    const Tensor vx = torch::randn_like(x), vw = torch::randn_like(w);
    const double slope = ((x.grad() * vx).sum() + (w.grad() * vw).sum()).item<double>();
    constexpr double kStep = 1e-6;
    const torch::NoGradGuard no_grad;
    const double up = loss(x + kStep * vx, w + kStep * vw).item<double>();
    const double down = loss(x - kStep * vx, w - kStep * vw).item<double>();
    EXPECT_NEAR((up - down) / (2 * kStep), slope, 1e-6 * std::abs(slope) + 1e-6);
  }
}

TEST(BilinearProduct, ABFloat16WireSendsFewerBytesAndStaysCloseToPlain) {
  for (const char* protection : {"permuted", "rotated", "oblique"}) {
    BlindingOptions options{.protection = protection, .wire = WirePrecision::kBFloat16};
    torch::manual_seed(kSeed);
    const Tensor x = torch::randn({4, 16, 8, 8}), w = torch::randn({32, 16, 3, 3}), b = torch::zeros({32});
    const Tensor dy = torch::randn({4, 32, 8, 8});
    const auto session = testing::make_session(options);
    const auto layer =
        std::make_shared<BilinearProduct>(*session, "conv", offload::ProductGeometry{16, 32, 3, 3, 1, 1, 1});
    session->begin_pass({obfuscation::Period::kStep, 1, 0});
    const Gradients want =
        run([](const Tensor& x_, const Tensor& w_, const Tensor& b_) { return torch::conv2d(x_, w_, b_, 1, 1); }, x, w,
            b, dy);
    const Gradients got =
        run([&](const Tensor& x_, const Tensor& w_, const Tensor& b_) { return offloaded_conv2d(layer, x_, w_, b_); },
            x, w, b, dy);
    // Scales between 1/4 and 4 undo themselves at the price of rounding.
    expect_equal(got, want, std::string_view(protection) == "oblique" ? 3e-2 : 1e-2);
    EXPECT_GT(relative_error(got.y, want.y), 1e-5) << "float32 went over the wire";
  }
}

/// On a CPU TF32 products are float32's; bf16 ones are not. Either way they are verified as what they may be.
TEST(BilinearProduct, ProductsInTf32AndBFloat16PassVerification) {
  for (const char* protection : {"permuted", "rotated", "oblique"})
    for (const WirePrecision wire : {WirePrecision::kFloat32, WirePrecision::kBFloat16})
      for (const auto precision : {contract::ProductPrecision::kTf32, contract::ProductPrecision::kBFloat16}) {
        const BlindingOptions options{.protection = protection, .wire = wire, .products = precision};
        SCOPED_TRACE(fmt::format("{} products {}", train::describe(options), static_cast<int>(precision)));
        torch::manual_seed(kSeed);
        const Tensor x = torch::randn({4, 16, 8, 8}), w = torch::randn({32, 16, 3, 3}), b = torch::zeros({32});
        const Tensor dy = torch::randn({4, 32, 8, 8});
        const auto session = testing::make_session(options);
        const auto layer =
            std::make_shared<BilinearProduct>(*session, "conv", offload::ProductGeometry{16, 32, 3, 3, 1, 1, 1});
        session->begin_pass({obfuscation::Period::kStep, 1, 0});
        const auto plain = [](const Tensor& x_, const Tensor& w_, const Tensor& b_) {
          return torch::conv2d(x_, w_, b_, 1, 1);
        };
        const auto offloaded = [&](const Tensor& x_, const Tensor& w_, const Tensor& b_) {
          return offloaded_conv2d(layer, x_, w_, b_);
        };
        const Gradients want = run(plain, x, w, b, dy), got = run(offloaded, x, w, b, dy);
        expect_equal(got, want, 2e-2);
        if (precision == contract::ProductPrecision::kBFloat16) {
          EXPECT_GT(relative_error(got.y, want.y), 1e-4);
        }
      }
}

// A worker that has operand sizes wrong must not be believed; here: a session that is given a lying one.
class WrongShapeWorker final : public contract::Worker {
 public:
  contract::WorkerDescription describe() override { return {.name = "liar:", .device = "", .version = ""}; }
  contract::Buffer allocate(const contract::TensorSpec& spec) override { return contract::Buffer::allocate(spec); }
  void put(contract::OperandId, contract::Buffer) override {}
  void free(std::vector<contract::OperandId>) override {}
  std::future<contract::Buffer> submit(contract::Operation) override {
    std::promise<contract::Buffer> reply;
    reply.set_value(contract::Buffer::allocate({.type = contract::ElementType::kFloat32, .shape = {1, 1}}));
    return reply.get_future();
  }
};

TEST(BilinearProduct, AReplyOfTheWrongShapeIsRefused) {
  offload::Session session({.decoys = 0}, SecretKey::random(), std::make_shared<WrongShapeWorker>(), 1);
  const auto layer = std::make_shared<BilinearProduct>(session, "fc", offload::ProductGeometry{.in = 4, .out = 4});
  session.begin_pass({obfuscation::Period::kStep, 0, 0});
  try {
    offloaded_linear(layer, torch::randn({2, 4}), torch::randn({4, 4}), {});
    FAIL() << "a reply of the wrong shape was accepted";
  } catch (const ProtocolError& error) {
    EXPECT_EQ(
        std::string(error.what()),
        "offload: reply to forward of fc from liar: is float32[1, 1], expected float32[2, 4]; the reply is dropped");
  }
}

TEST(Session, BeginPassRefusesAPassThatCameBefore) {
  const auto session = testing::make_session({});
  const auto layer = std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 4, .out = 4});
  const Tensor x = torch::randn({2, 4}), w = torch::randn({4, 4});
  EXPECT_THROW(offloaded_linear(layer, x, w, {}), InputError) << "a product before the first pass";
  session->begin_pass({obfuscation::Period::kStep, 3, 0});
  session->begin_pass({obfuscation::Period::kEvaluation, 3, 0});
  session->begin_pass({obfuscation::Period::kEvaluation, 3, 1});
  EXPECT_THROW(session->begin_pass({obfuscation::Period::kEvaluation, 3, 1}), InputError);
  EXPECT_THROW(session->begin_pass({obfuscation::Period::kStep, 3, 0}), InputError);
  session->begin_pass({obfuscation::Period::kStep, 4, 0});
}

TEST(BilinearProduct, OperandsOfOtherShapesOrTypesAreRefused) {
  const auto session = testing::make_session({});
  session->begin_pass({obfuscation::Period::kStep, 0, 0});
  const auto fc = std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 4, .out = 4});
  EXPECT_THROW(offloaded_linear(fc, torch::randn({2, 5}), torch::randn({4, 5}), {}), InputError);
  EXPECT_THROW(offloaded_linear(fc, torch::randn({2, 4}), torch::randn({4, 4}, torch::kFloat64), {}), InputError);
  const auto product = std::make_shared<BilinearProduct>(*session, "attn.scores");
  EXPECT_THROW(offloaded_matmul(product, torch::randn({2, 3, 4}), torch::randn({2, 5, 4})), InputError);
  EXPECT_THROW(offloaded_matmul(product, torch::randn({2, 3, 4}), torch::randn({1, 4, 4})), InputError);
}

TEST(BilinearProduct, ASecondBackwardOverOneForwardIsRefused) {
  const auto session = testing::make_session({});
  session->begin_pass({obfuscation::Period::kStep, 0, 0});
  const auto fc = std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 4, .out = 4});
  const Tensor w = torch::randn({4, 4}).requires_grad_();
  const Tensor loss = offloaded_linear(fc, torch::randn({2, 4}), w, {}).sum();
  loss.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(loss.backward(), InputError);
  const Tensor again = offloaded_linear(fc, torch::randn({2, 4}), w, {}).sum();
  EXPECT_THROW(again.backward({}, /*keep_graph=*/true, /*create_graph=*/true), InputError);
}

// Two uses of one layer in a pass have keys of their own, and both gradients arrive.
TEST(BilinearProduct, ALayerUsedTwiceInAPassGetsBothGradients) {
  torch::manual_seed(kSeed);
  const auto session = testing::make_session({});
  session->begin_pass({obfuscation::Period::kStep, 0, 0});
  const auto fc = std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 20, .out = 20});
  const auto gradient = [&](const auto& product) {
    Tensor w = torch::ones({20, 20}).mul(0.1).requires_grad_();
    product(product(torch::ones({5, 20}), w), w).square().sum().backward();
    return w.grad();
  };
  const Tensor want = gradient([](const Tensor& x, const Tensor& w) { return torch::linear(x, w); });
  const Tensor got = gradient([&](const Tensor& x, const Tensor& w) { return offloaded_linear(fc, x, w, {}); });
  EXPECT_LT(relative_error(got, want), 1e-4);
}

// A changed weight would give the gradient of another product, without a word.
TEST(BilinearProduct, AWeightThatIsSentAgainMayNotChangeBeforeTheBackwardPass) {
  const auto refuses = [](const BlindingOptions& options) {
    const auto session = testing::make_session(options);
    session->begin_pass({obfuscation::Period::kStep, 0, 0});
    const auto fc = std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 20, .out = 20});
    Tensor x = torch::randn({5, 20}).requires_grad_(), w = torch::randn({20, 20}).requires_grad_();
    const Tensor y = offloaded_linear(fc, x, w, {});
    {
      const torch::NoGradGuard guard;
      w.add_(1);
    }
    try {
      y.sum().backward();
    } catch (const c10::Error& error) {
      return std::string_view(error.what()).find("modified by an inplace operation") != std::string_view::npos;
    }
    return false;
  };
  EXPECT_TRUE(refuses({.protection = "oblique", .reuse = Reuse::kSplit}));
  EXPECT_FALSE(refuses({.protection = "oblique", .reuse = Reuse::kFull}));
}

TEST(BilinearProduct, EncryptionsPerStepAreAsFewAsTheSettingsAllow) {
  const auto count = [](const BlindingOptions& options) {
    const auto session = testing::make_session(options);
    const auto layer = std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 8, .out = 8});
    session->begin_pass({obfuscation::Period::kStep, 1, 0});
    run([&](const Tensor& x, const Tensor& w, const Tensor& b) { return offloaded_linear(layer, x, w, b); },
        torch::randn({4, 8}), torch::randn({8, 8}), torch::randn({8}), torch::randn({4, 8}));
    return session->counters().encryptions;
  };
  EXPECT_EQ(count({.reuse = Reuse::kNone}), 6U);
  EXPECT_EQ(count({.reuse = Reuse::kFresh}), 4U);
  EXPECT_EQ(count({.reuse = Reuse::kSplit}), 4U);
  EXPECT_EQ(count({.reuse = Reuse::kFull}), 3U);
  EXPECT_EQ(count({.reuse = Reuse::kFull, .weights = WeightPlacement::kResident}), 2U);
}

// Two hundred steps under rotating keys must follow plain SGD: nothing drifts.
TEST(ResidentWeight, TwoHundredStepsWithRekeyingFollowPlainSgd) {
  torch::manual_seed(kSeed);
  BlindingOptions options{.weights = WeightPlacement::kResident, .rekey_interval = 7};
  const auto session = testing::make_session(options);
  const auto layer = std::make_shared<BilinearProduct>(*session, "fc", offload::ProductGeometry{.in = 33, .out = 17});
  Tensor w = (torch::randn({17, 33}, torch::kFloat64) * 0.1).to(torch::kFloat32).requires_grad_();
  Tensor plain = w.detach().to(torch::kFloat64), velocity = torch::zeros_like(plain);
  const Tensor target = torch::randn({17, 33}, torch::kFloat64);
  for (uint64_t step = 0; step < 200; ++step) {
    session->begin_pass({obfuscation::Period::kStep, step, 0});
    const Tensor x = torch::randn({20, 33}, torch::kFloat64);
    const Tensor wanted = torch::linear(x, target);
    const Tensor y = offloaded_linear(layer, x.to(torch::kFloat32).requires_grad_(), w, {});
    (y - wanted.to(torch::kFloat32)).square().mean().backward();
    layer->parameter()->step({.step = step + 1, .learning_rate = 0.2, .momentum = 0.9, .weight_decay = 1e-3});
    const Tensor residual = torch::linear(x, plain) - wanted;
    const Tensor gradient = residual.t().matmul(x) * (2.0 / static_cast<double>(residual.numel()));
    velocity = 0.9 * velocity + gradient + 1e-3 * plain;
    plain = plain - 0.2 * velocity;
  }
  Tensor got = torch::empty_like(w);
  fetch_resident(*layer, got);
  EXPECT_LT(relative_error(got.to(torch::kFloat64), plain), 2e-6);
}

}  // namespace parity_test
}  // namespace tempo::nn
