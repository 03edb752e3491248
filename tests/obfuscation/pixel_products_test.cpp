// Inner products that are taken while a tensor is blinded or un-blinded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "obfuscation/blind.h"
#include "obfuscation/dense_model.h"
#include "obfuscation/typed_blind.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace pixel_products_test {

using namespace dense;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20261126;
constexpr double kUntouched = -777;

template <typename T>
constexpr ElementType kOwnType = std::is_same_v<T, float> ? ElementType::kFloat32 : ElementType::kFloat64;

/// One tensor, its cut and keys, and what is wanted of it.
template <typename T>
struct Case {
  TileGeometry geometry;
  Key rows, channels;
  std::vector<T> x, vectors, planes;
  std::vector<std::byte> wire;
  ElementType type;
  ThreadPool threads{2};

  Case(const TileGeometry& cut, int64_t count, ElementType wire_type, Random& random)
      : geometry(cut),
        rows(random_key(cut.rows(), 1, kPermuted, random)),
        channels(random_key(cut.channels, 1, kPermuted, random)),
        x(random_values<T>(image_elements(cut), random)),
        vectors(random_values<T>(count * cut.channels, random)),
        wire(static_cast<size_t>(cut.elements()) * contract::element_bytes(wire_type)),
        type(wire_type) {}

  [[nodiscard]] int64_t pixels() const { return geometry.images * geometry.height * geometry.width; }
  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(vectors.size()) / geometry.channels; }
  PixelProducts wanted() {
    planes.assign(static_cast<size_t>((count() + 1) * pixels()), T(kUntouched));
    return {count(), vectors.data(), planes.data()};
  }
  void blind(Form form = Form::kDirect) {
    const PixelProducts products = wanted();
    obfuscation::blind(x.data(), geometry, {&rows, form}, {&channels, Form::kDirect}, type, wire.data(), threads,
                       {.products = products});
  }
  void unblind() {
    const PixelProducts products = wanted();
    obfuscation::unblind(wire.data(), type, geometry, {&rows, Form::kInverse}, {&channels, Form::kInverse}, x.data(),
                         threads, {.products = products});
  }
  /// Says of each pixel whether a tile lies on it.
  [[nodiscard]] std::vector<bool> covered() const {
    std::vector<bool> covered(static_cast<size_t>(pixels()));
    for (int64_t row = 0; row < geometry.rows(); ++row)
      for (int64_t position = 0; position < geometry.positions(); ++position)
        if (const int64_t offset = geometry.pixel_offset(row, position); offset >= 0)
          covered[static_cast<size_t>(offset / geometry.channels)] = true;
    return covered;
  }
  /// Checks the products of x as it is now.
  void expect_products() const {
    const std::vector<bool> covered = this->covered();
    for (int64_t pixel = 0; pixel < pixels(); ++pixel)
      for (int64_t v = 0; v <= count(); ++v) {
        double sum = 0, magnitude = 0;
        for (int64_t c = 0; c < geometry.channels; ++c) {
          const double value = x[static_cast<size_t>(pixel * geometry.channels + c)];
          const double term = value * (v == count() ? value : vectors[static_cast<size_t>(v * geometry.channels + c)]);
          sum += term;
          magnitude += std::abs(term);
        }
        const double found = planes[static_cast<size_t>(v * pixels() + pixel)];
        const double unit = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53;
        if (covered[static_cast<size_t>(pixel)])
          ASSERT_NEAR(found, sum, static_cast<double>(geometry.channels) * unit * magnitude)
              << "plane " << v << " pixel " << pixel;
        else
          ASSERT_EQ(found, kUntouched) << "plane " << v << " pixel " << pixel;
      }
  }
};

std::vector<TileGeometry> geometries() {
  const auto input = [](int64_t kernel, int64_t stride, int64_t padding, int64_t channels, int64_t tile = 4,
                        int64_t dilation = 1) {
    return tile_convolution(3, {9, kernel, stride, padding, dilation}, {6, kernel, stride, padding, dilation},
                            {channels, 8}, tile)
        .input;
  };
  return {matrix_geometry(1, 1),
          matrix_geometry(37, 29),
          matrix_geometry(160, 64),
          matrix_geometry(16, 3),
          input(1, 1, 0, 24),
          input(1, 2, 0, 16),  // a stride leaves pixels out
          input(1, 1, 1, 17),  // padding around
          tile_convolution(3, {9, 3, 1, 1, 1}, {6, 3, 1, 1, 1}, {8, 40}, 4).output,
          input(3, 1, 1, 24),  // tiles overlap
          input(3, 1, 1, 8, 2),
          input(3, 1, 1, 16, 1),  // as taps
          input(3, 2, 1, 17),
          input(3, 1, 2, 8, 1, 2),
          input(3, 1, 2, 8, 2, 2),
          input(5, 2, 0, 8, 1),
          weight_geometry(20, 3, 3, 24)};
}

template <typename T>
class PixelProductsTest : public ::testing::Test {};
using ElementTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PixelProductsTest, ElementTypes);

TYPED_TEST(PixelProductsTest, ProductsAreThoseOfThePlainTensorInBothDirections) {
  Random random(kSeed);
  for (const Isa isa : supported_isas())
    for (const TileGeometry& g : geometries())
      for (const int64_t count : {1, 2}) {
        SCOPED_TRACE(fmt::format("{}: {} x {}, {} positions, {} vectors, seed {}", isa.name, g.rows(), g.channels,
                                 g.positions(), count, kSeed));
        const ScopedIsa forced(isa);
        Case<TypeParam> of(g, count, kOwnType<TypeParam>, random);
        ASSERT_TRUE(supports({.products = of.wanted()}, under(g, of.rows, of.channels)));
        of.blind();
        of.expect_products();
        of.blind(Form::kInverseTranspose);
        of.expect_products();
        of.blind();
        of.unblind();
        of.expect_products();
      }
}

TYPED_TEST(PixelProductsTest, WeightedSumsOfPixelsAreComputedWhileBlinding) {
  Random random(kSeed);
  std::vector<TileGeometry> all = geometries();
  all.push_back(matrix_geometry(3000, 40));  // more rows than are summed at once
  for (const Isa isa : supported_isas())
    for (const TileGeometry& g : all) {
      SCOPED_TRACE(
          fmt::format("{}: {} x {}, {} positions, seed {}", isa.name, g.rows(), g.channels, g.positions(), kSeed));
      const ScopedIsa forced(isa);
      Case<TypeParam> of(g, 1, kOwnType<TypeParam>, random);
      const auto weights = random_values<TypeParam>(of.pixels(), random);
      std::vector<double> sums(static_cast<size_t>(g.channels), kUntouched), expected(sums.size()),
          magnitude(sums.size());
      PixelProducts products = of.wanted();
      products.weights = weights.data();
      products.column_sums = sums.data();
      blind(of.x.data(), g, {&of.rows, Form::kDirect}, {&of.channels, Form::kDirect}, of.type, of.wire.data(),
            of.threads, {.products = products});
      of.expect_products();
      const std::vector<bool> covered = of.covered();
      for (int64_t pixel = 0; pixel < of.pixels(); ++pixel)
        for (int64_t c = 0; covered[static_cast<size_t>(pixel)] && c < g.channels; ++c) {
          const double term =
              double{weights[static_cast<size_t>(pixel)]} * double{of.x[static_cast<size_t>(pixel * g.channels + c)]};
          expected[static_cast<size_t>(c)] += term;
          magnitude[static_cast<size_t>(c)] += std::abs(term);
        }
      const double unit = std::is_same_v<TypeParam, float> ? 0x1p-24 : 0x1p-53;
      for (size_t c = 0; c < sums.size(); ++c) EXPECT_NEAR(sums[c], expected[c], 512 * unit * magnitude[c]) << c;
    }
}

TEST(PixelProducts, ProductsUnderANarrowWireAreThoseOfTheUnblindedTensor) {
  Random random(kSeed);
  for (const TileGeometry& g : geometries()) {
    Case<float> of(g, 2, ElementType::kBFloat16, random);
    of.blind();
    of.expect_products();
    of.unblind();
    of.expect_products();
  }
}

/// Large enough for stores that go past the caches.
TEST(PixelProducts, ProductsDoNotChangeTheBlindedBytes) {
  Random random(kSeed);
  const TileGeometry g = matrix_geometry(24000, 64);
  Case<float> of(g, 2, ElementType::kFloat32, random);
  of.blind();
  of.expect_products();
  const std::vector<std::byte> with = of.wire;
  const std::vector<float> x = of.x;
  obfuscation::blind(of.x.data(), g, {&of.rows, Form::kDirect}, {&of.channels, Form::kDirect}, of.type, of.wire.data(),
                     of.threads);
  EXPECT_TRUE(of.wire == with);
  of.unblind();
  of.expect_products();
  const std::vector<float> back = of.x;
  obfuscation::unblind(of.wire.data(), of.type, g, {&of.rows, Form::kInverse}, {&of.channels, Form::kInverse},
                       of.x.data(), of.threads);
  EXPECT_TRUE(of.x == back);
}

TYPED_TEST(PixelProductsTest, AnAddendIsAddedAndDoesNotChangeTheProducts) {
  Random random(kSeed);
  for (const Isa isa : supported_isas())
    for (const auto& [rows, width] : {std::pair{1, 3}, {37, 29}, {160, 64}, {24000, 64}}) {
      if (rows > 1000 && isa.target == 0) continue;
      SCOPED_TRACE(fmt::format("{}: {} x {}, seed {}", isa.name, rows, width, kSeed));
      const ScopedIsa forced(isa);
      const TileGeometry g = matrix_geometry(rows, width);
      Case<TypeParam> of(g, 1, kOwnType<TypeParam>, random);
      of.blind();
      of.unblind();
      const auto alone = of.x, planes = of.planes;
      const auto addend = random_values<TypeParam>(rows * width, random);
      const KeyUse left = {&of.rows, Form::kInverse}, right = {&of.channels, Form::kInverse};
      for (const bool with_products : {false, true}) {
        std::vector<TypeParam> x(of.x.size(), TypeParam(12345));
        unblind(of.wire.data(), of.type, g, left, right, x.data(), of.threads,
                {.products = with_products ? of.wanted() : PixelProducts(), .addend = addend.data()});
        for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], alone[i] + addend[i]) << i;
      }
      EXPECT_EQ(of.planes, planes);
    }
}

TEST(PixelProducts, AnAddendIsRefusedIfRowsAreMixed) {
  Random random(kSeed);
  const Key rows = random_key(32, 1, kPermuted, random), channels = random_key(16, 1, kPermuted, random);
  const auto cut = tile_convolution(2, {4, 1, 2, 0, 1}, {4, 1, 2, 0, 1}, {16, 16}, 4).input;
  const Key mixed = random_key(32, 1, kRotated, random), of_cut = random_key(cut.rows(), 1, kPermuted, random);
  std::vector<float> x(32 * 16), addend(32 * 16);
  const Taps adds{.addend = addend.data()};
  const auto whole = tile_convolution(2, {4, 1, 1, 0, 1}, {4, 1, 1, 0, 1}, {16, 16}, 4).input;
  EXPECT_TRUE(supports(adds, under(matrix_geometry(32, 16), rows, channels)));
  EXPECT_TRUE(supports(adds, under(whole, rows, channels)));
  EXPECT_FALSE(supports(adds, under(cut, of_cut, channels))) << "pixels are left out";
  const std::vector<std::byte> wire(32 * 16 * 4);
  ThreadPool threads(1);
  EXPECT_THROW(unblind(wire.data(), ElementType::kFloat32, matrix_geometry(32, 16), {&mixed, Form::kInverse},
                       {&channels, Form::kInverse}, x.data(), threads, {.addend = addend.data()}),
               InputError);
}

TEST(PixelProducts, ProductsLeaveOutDecoys) {
  Random random(kSeed);
  Case<float> of(tile_convolution(5, {4, 1, 1, 0, 1}, {4, 1, 1, 0, 1}, {16, 16}, 4).input, 1, ElementType::kFloat32,
                 random);
  constexpr int64_t kDecoys = 2;
  const std::vector<float> decoys(of.x.end() - kDecoys * 4 * 4 * 16, of.x.end());
  std::vector<float> real(of.x.begin(), of.x.end() - kDecoys * 4 * 4 * 16);
  of.wanted();
  const int64_t pixels = 3 * 4 * 4;
  const PixelProducts products = {1, of.vectors.data(), of.planes.data()};
  obfuscation::blind(real.data(), of.geometry, {&of.rows, Form::kDirect}, {&of.channels, Form::kDirect}, of.type,
                     of.wire.data(), of.threads, {.products = products}, {kDecoys, decoys.data()});
  for (int64_t i = 0; i < 2 * pixels; ++i) EXPECT_NE(of.planes[static_cast<size_t>(i)], float(kUntouched));
  for (size_t i = static_cast<size_t>(2 * pixels); i < of.planes.size(); ++i)
    EXPECT_EQ(of.planes[i], float(kUntouched));
}

TEST(PixelProducts, ProductsAreRefusedUnderMixingKeys) {
  Random random(kSeed);
  const TileGeometry matrix = matrix_geometry(32, 16);
  const Key permuted = random_key(32, 1, kPermuted, random), mixed = random_key(32, 1, kRotated, random),
            twice = random_key(32, 2, kPermuted, random), channels = random_key(16, 1, kPermuted, random);
  const Key rotated = random_key(16, 1, kRotated, random);
  const std::vector<float> x(32 * 16), vectors(3 * 16);
  std::vector<float> planes(4 * 32);
  std::vector<std::byte> wire(32 * 16 * 4);
  ThreadPool threads(1);
  const Taps one{.products = {1, vectors.data(), planes.data()}};
  EXPECT_TRUE(supports(one, under(matrix, permuted, channels)));
  EXPECT_FALSE(supports(one, under(matrix, mixed, channels)));
  EXPECT_FALSE(supports(one, under(matrix, twice, channels)));
  EXPECT_FALSE(supports(one, under(matrix, permuted, rotated)));
  const auto refusal = [&](const Key& rows, const PixelProducts& products) {
    try {
      blind(x.data(), matrix, {&rows, Form::kDirect}, {&channels, Form::kDirect}, ElementType::kFloat32, wire.data(),
            threads, {.products = products});
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("not refused");
  };
  EXPECT_THAT(refusal(mixed, {1, vectors.data(), planes.data()}), HasSubstr("are mixed"));
  EXPECT_THAT(refusal(permuted, {3, vectors.data(), planes.data()}), HasSubstr("3 vectors, expected at most 2"));
  EXPECT_THAT(refusal(permuted, {1, vectors.data(), nullptr}), HasSubstr("and memory for them"));
  EXPECT_THAT(refusal(permuted, {2, vectors.data(), planes.data(), x.data()}),
              HasSubstr("column sums beside 2 vectors"));
}

}  // namespace pixel_products_test
}  // namespace tempo::obfuscation
