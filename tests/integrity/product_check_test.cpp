#include "integrity/product_check.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "integrity/matmul_check.h"

namespace tempo::integrity {
namespace product_check_test {

constexpr unsigned kSeed = 11;

/// A product and its gradients by plain loops.
template <typename T>
struct Product {
  ProductShape s;
  std::vector<T> x, w, dy, y, dx, dw;

  explicit Product(const ProductShape& shape, unsigned seed = kSeed) : s(shape) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    const auto draw = [&](std::vector<T>& values, int64_t count) {
      values.resize(static_cast<size_t>(count));
      for (T& value : values) value = static_cast<T>(normal(random));
    };
    draw(x, s.in_pixels() * s.in);
    draw(w, s.out * s.taps() * s.in);
    draw(dy, s.out_pixels() * s.out);
    compute();
  }

  void compute() {
    std::vector<double> sums_y(dy.size()), sums_dx(x.size()), sums_dw(w.size());
    for_each_run(s, 0, s.images, [&](int64_t out, int64_t tap, int64_t in, int64_t run) {
      for (int64_t i = 0; i < run; ++i)
        for (int64_t o = 0; o < s.out; ++o)
          for (int64_t c = 0; c < s.in; ++c) {
            const auto at_y = static_cast<size_t>((out + i) * s.out + o),
                       at_x = static_cast<size_t>((in + i * s.stride) * s.in + c),
                       at_w = static_cast<size_t>((o * s.taps() + tap) * s.in + c);
            sums_y[at_y] += double{x[at_x]} * w[at_w];
            sums_dx[at_x] += double{dy[at_y]} * w[at_w];
            sums_dw[at_w] += double{dy[at_y]} * x[at_x];
          }
    });
    y.assign(sums_y.begin(), sums_y.end());
    dx.assign(sums_dx.begin(), sums_dx.end());
    dw.assign(sums_dw.begin(), sums_dw.end());
  }
};

std::vector<ProductShape> shapes() {
  return {
      {.images = 5, .in = 17, .out = 9},
      {.images = 64, .in = 32, .out = 48},
      {.images = 2,
       .height = 6,
       .width = 7,
       .in = 5,
       .out_height = 6,
       .out_width = 7,
       .out = 4,
       .kernel_h = 3,
       .kernel_w = 3,
       .padding = 1},
      {.images = 2,
       .height = 7,
       .width = 5,
       .in = 3,
       .out_height = 4,
       .out_width = 3,
       .out = 6,
       .kernel_h = 3,
       .kernel_w = 3,
       .stride = 2,
       .padding = 1},
      {.images = 1,
       .height = 9,
       .width = 9,
       .in = 2,
       .out_height = 9,
       .out_width = 9,
       .out = 3,
       .kernel_h = 5,
       .kernel_w = 3,
       .padding = 2,
       .dilation = 1},
      {.images = 2, .height = 8, .width = 8, .in = 4, .out_height = 4, .out_width = 4, .out = 8, .stride = 2},
  };
}

ProductShape fitted(ProductShape s) {
  const auto outputs = [&](int64_t size, int64_t kernel) {
    return (size + 2 * s.padding - s.dilation * (kernel - 1) - 1) / s.stride + 1;
  };
  s.out_height = outputs(s.height, s.kernel_h);
  s.out_width = outputs(s.width, s.kernel_w);
  return s;
}

template <typename T>
Projection<T> measured(Projection<T> wanted, const std::vector<T>& x, ThreadPool& threads) {
  wanted.measure(x.data(), threads);
  return wanted;
}

template <typename T>
struct Checked {
  explicit Checked(const ProductShape& shape)
      : product(shape), secret(SecretKey::random()), weight(secret, shape.out, shape.taps(), shape.in) {
    weight.take(product.w.data(), threads);
    check.emplace(shape, RoundingModel{.unit_roundoff = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53}, weight);
    see_input();
    check->see_output_gradient(measured(check->template of_output_gradient<T>(true), product.dy, threads), threads);
  }
  void see_input() { check->see_input(measured(check->template of_input<T>(), product.x, threads), threads); }
  Residual output() { return check->output(measured(check->template of_output<T>(), product.y, threads)); }
  Residual input_gradient() {
    return check->input_gradient(measured(check->template of_input_gradient<T>(), product.dx, threads));
  }
  Residual returned() {
    return check->returned_gradient(measured(check->template of_weight_gradient<T>(), product.dw, threads));
  }
  ThreadPool threads{2};
  Product<T> product;
  Csprng secret;
  WeightFingerprint weight;
  std::optional<ProductCheck> check;
};

template <typename T>
class ProductCheckTest : public ::testing::Test {};
using ElementTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ProductCheckTest, ElementTypes);

TYPED_TEST(ProductCheckTest, HonestResultsPass) {
  for (const ProductShape& unfitted : shapes()) {
    const ProductShape shape = fitted(unfitted);
    SCOPED_TRACE(fmt::format("kernel {}x{} stride {}, {} -> {}", shape.kernel_h, shape.kernel_w, shape.stride, shape.in,
                             shape.out));
    Checked<TypeParam> c(shape);
    EXPECT_LT(c.output().ratio(), 1);
    EXPECT_LT(c.input_gradient().ratio(), 1);
    EXPECT_LT(c.returned().ratio(), 1);
  }
}

TYPED_TEST(ProductCheckTest, OneWrongElementIsFoundInEveryKindOfResult) {
  for (const ProductShape& unfitted : shapes()) {
    const ProductShape shape = fitted(unfitted);
    SCOPED_TRACE(fmt::format("kernel {}x{} stride {}, {} -> {}", shape.kernel_h, shape.kernel_w, shape.stride, shape.in,
                             shape.out));
    Checked<TypeParam> c(shape);
    for (std::vector<TypeParam>* result : {&c.product.y, &c.product.dx, &c.product.dw}) {
      TypeParam& element = (*result)[result->size() / 2];
      const TypeParam honest = element;
      for (const TypeParam wrong : {honest + TypeParam(0.01), std::numeric_limits<TypeParam>::quiet_NaN(),
                                    std::numeric_limits<TypeParam>::infinity()}) {
        element = wrong;
        const bool passes_y = c.output().is_explained(), passes_dx = c.input_gradient().is_explained(),
                   passes_dw = c.returned().is_explained();
        EXPECT_EQ(passes_y, result != &c.product.y);
        EXPECT_EQ(passes_dx, result != &c.product.dx);
        EXPECT_EQ(passes_dw, result != &c.product.dw);
      }
      element = honest;
    }
  }
}

TYPED_TEST(ProductCheckTest, AWeightGradientCannotBeCheckedBeforeTheOperandsAreSeen) {
  const ProductShape shape = fitted(shapes().front());
  Checked<TypeParam> c(shape);
  const ProductCheck unseen(shape, RoundingModel{}, c.weight);
  const auto dw = measured(unseen.of_weight_gradient<TypeParam>(), c.product.dw, c.threads);
  EXPECT_THROW((void)unseen.returned_gradient(dw), std::logic_error);
}

TYPED_TEST(ProductCheckTest, InfiniteOperandsOfTheMasterDoNotAccuseTheWorker) {
  const ProductShape shape = shapes().front();
  Checked<TypeParam> c(shape);
  c.product.x.front() = std::numeric_limits<TypeParam>::infinity();
  c.see_input();
  EXPECT_TRUE(c.output().is_explained());
}

TEST(WeightFingerprint, AFingerprintFollowsTwoHundredUpdates) {
  const ProductShape shape = fitted(shapes()[2]);
  ThreadPool threads(1);
  Product<float> p(shape);
  Csprng secret(SecretKey::random());
  WeightFingerprint fingerprint(secret, shape.out, shape.taps(), shape.in);
  fingerprint.take(p.w.data(), threads);
  std::vector<float> velocity(p.w.size());
  const SgdRates rates{.learning_rate = 0.001, .momentum = 0.9, .weight_decay = 5e-4, .gradient_scale = 0.5};
  for (unsigned step = 0; step < 200; ++step) {
    Product<float> now(shape, kSeed + step);
    now.w = p.w;
    now.compute();
    ProductCheck check(shape, {}, fingerprint);
    check.see_input(measured(check.of_input<float>(), now.x, threads), threads);
    check.see_output_gradient(measured(check.of_output_gradient<float>(true), now.dy, threads), threads);
    ASSERT_TRUE(check.output(measured(check.of_output<float>(), now.y, threads)).is_explained()) << step;
    fingerprint.advance(check.weight_gradient(now.x.data(), threads), rates, check.gradient_error(), 0x1p-24);
    for (size_t i = 0; i < p.w.size(); ++i) {
      velocity[i] = 0.9F * velocity[i] + 0.5F * now.dw[i] + 5e-4F * p.w[i];
      p.w[i] -= 0.001F * velocity[i];
    }
  }
  double squares = 0;
  const Projections fetched = fingerprint.project(p.w.data(), threads, &squares);
  const Residual honest =
      compare_fetched(fetched, fingerprint.weight(), std::sqrt(squares), fingerprint.drift(), 0x1p-24);
  EXPECT_TRUE(honest.is_explained()) << honest.ratio();
  p.w.front() *= 1.01F;
  EXPECT_FALSE(compare_fetched(fingerprint.project(p.w.data(), threads), fingerprint.weight(), std::sqrt(squares),
                               fingerprint.drift(), 0x1p-24)
                   .is_explained());
}

TEST(MatmulCheck, OneWrongElementIsFound) {
  const MatmulShape shape{.batch = 3, .n = 7, .d = 5, .m = 6};
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  const auto draw = [&](int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
  };
  const auto a = draw(3 * 7 * 5), b = draw(3 * 5 * 6), dc = draw(3 * 7 * 6);
  std::vector<float> c(dc.size()), da(a.size()), db(b.size());
  for (size_t t = 0; t < 3; ++t)
    for (size_t i = 0; i < 7; ++i)
      for (size_t k = 0; k < 5; ++k)
        for (size_t j = 0; j < 6; ++j) {
          const size_t at_a = (t * 7 + i) * 5 + k, at_b = (t * 5 + k) * 6 + j, at_c = (t * 7 + i) * 6 + j;
          c[at_c] += a[at_a] * b[at_b];
          da[at_a] += dc[at_c] * b[at_b];
          db[at_b] += dc[at_c] * a[at_a];
        }
  ThreadPool threads(2);
  Csprng secret(SecretKey::random());
  const auto passes = [&] {
    return std::array{check_matmul(shape, {}, a.data(), b.data(), c.data(), secret, threads).is_explained(),
                      check_matmul_da(shape, {}, b.data(), dc.data(), da.data(), secret, threads).is_explained(),
                      check_matmul_db(shape, {}, a.data(), dc.data(), db.data(), secret, threads).is_explained()};
  };
  EXPECT_EQ(passes(), (std::array{true, true, true}));
  c[40] += 0.01F;
  EXPECT_EQ(passes(), (std::array{false, true, true}));
  da[40] += 0.01F;
  db[40] += 0.01F;
  EXPECT_EQ(passes(), (std::array{false, false, false}));
}

}  // namespace product_check_test
}  // namespace tempo::integrity
