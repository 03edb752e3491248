// What else is done of a tensor on its way: moments of its columns, and making it in the first place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "obfuscation/blind.h"
#include "obfuscation/dense_model.h"
#include "obfuscation/typed_blind.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace on_the_way_test {

using namespace dense;

constexpr uint64_t kSeed = 20261127;

template <typename T>
constexpr ElementType kOwnType = std::is_same_v<T, float> ? ElementType::kFloat32 : ElementType::kFloat64;

template <typename T>
class OnTheWay : public ::testing::Test {};
using ElementTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(OnTheWay, ElementTypes);

std::vector<TileGeometry> disjoint_geometries() {
  return {matrix_geometry(1, 1), matrix_geometry(37, 29), matrix_geometry(3000, 40),
          tile_convolution(3, {9, 3, 1, 1, 1}, {6, 3, 1, 1, 1}, {8, 40}, 4).output,  // tiles reach beyond the image
          weight_geometry(20, 3, 3, 24)};
}

TYPED_TEST(OnTheWay, MomentsAreThoseOfTheUnblindedTensor) {
  using T = TypeParam;
  Random random(kSeed);
  ThreadPool threads(2);
  for (const Isa isa : supported_isas())
    for (const TileGeometry& g : disjoint_geometries())
      for (const bool with_products : {false, true}) {
        SCOPED_TRACE(fmt::format("{}: {} x {}, {} positions, products {}, seed {}", isa.name, g.rows(), g.channels,
                                 g.positions(), with_products, kSeed));
        const ScopedIsa forced(isa);
        const Key rows = random_key(g.rows(), 1, kPermuted, random),
                  channels = random_key(g.channels, 1, kPermuted, random);
        auto x = random_values<T>(image_elements(g), random);
        const auto shift = random_values<T>(g.channels, random), vector = random_values<T>(g.channels, random);
        std::vector<std::byte> wire(static_cast<size_t>(g.elements()) * sizeof(T));
        blind(x.data(), g, {&rows, Form::kDirect}, {&channels, Form::kDirect}, kOwnType<T>, wire.data(), threads);
        // A worker may fill what is dropped with anything.
        for (int64_t row = 0; row < g.rows(); ++row)
          for (int64_t position = 0; position < g.positions(); ++position)
            if (const int64_t from = rows.rounds[0].source[static_cast<size_t>(row)];
                g.pixel_offset(from, position) < 0)
              std::fill_n(reinterpret_cast<T*>(wire.data()) + (row * g.positions() + position) * g.channels, g.channels,
                          std::numeric_limits<T>::quiet_NaN());
        std::vector<double> sums(static_cast<size_t>(g.channels), -7), squares(sums.size(), -7);
        const int64_t pixels = g.images * g.height * g.width;
        std::vector<T> planes(static_cast<size_t>(2 * pixels));
        obfuscation::unblind(
            wire.data(), kOwnType<T>, g, {&rows, Form::kInverse}, {&channels, Form::kInverse}, x.data(), threads,
            {.products = with_products ? PixelProducts{1, vector.data(), planes.data()} : PixelProducts(),
             .moments = {shift.data(), sums.data(), squares.data()}});
        const double unit = 512 * (std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53);
        for (int64_t c = 0; c < g.channels; ++c) {
          double sum = 0, square = 0, magnitude = 0;
          for (int64_t pixel = 0; pixel < pixels; ++pixel) {
            const double above =
                double{x[static_cast<size_t>(pixel * g.channels + c)]} - double{shift[static_cast<size_t>(c)]};
            sum += above;
            square += above * above;
            magnitude += std::abs(above);
          }
          ASSERT_NEAR(sums[static_cast<size_t>(c)], sum, unit * magnitude) << c;
          ASSERT_NEAR(squares[static_cast<size_t>(c)], square, unit * square) << c;
        }
      }
}

TYPED_TEST(OnTheWay, BlindingWithAMapEqualsBlindingTheMappedTensor) {
  using T = TypeParam;
  Random random(kSeed);
  ThreadPool threads(2);
  const auto cut = [](int64_t kernel, int64_t stride, int64_t tile, int64_t channels) {
    return tile_convolution(5, {9, kernel, stride, kernel / 2, 1}, {6, kernel, stride, kernel / 2, 1}, {channels, 8},
                            tile)
        .input;
  };
  for (const Isa isa : supported_isas())
    for (const TileGeometry& g : {matrix_geometry(37, 29), matrix_geometry(600, 64), cut(1, 1, 4, 24), cut(1, 2, 4, 8),
                                  cut(3, 1, 4, 24), cut(3, 2, 4, 17), cut(3, 1, 1, 8)})
      for (const KeyKind kind : {kPermuted, kRotated})
        for (const int64_t decoys : {0, 2}) {
          SCOPED_TRACE(fmt::format("{}: {} x {}, {} positions, {} decoys, seed {}", isa.name, g.rows(), g.channels,
                                   g.positions(), decoys, kSeed));
          const ScopedIsa forced(isa);
          const Key rows = random_key(g.rows(), 1, kind, random), channels = random_key(g.channels, 1, kind, random);
          const auto x = random_values<T>(image_elements(g), random);
          const ChannelAffine map{random_values<float>(g.channels, random), random_values<float>(g.channels, random),
                                  decoys == 0};
          const int64_t pixels = (g.images - decoys) * g.height * g.width;
          std::vector<T> made = x;
          for (size_t i = 0; i < static_cast<size_t>(pixels * g.channels); ++i) {
            const size_t c = i % static_cast<size_t>(g.channels);
            made[i] = std::fma(x[i], T(map.scale[c]), T(map.offset[c]));
            if (map.relu) made[i] = std::max(made[i], T(0));
          }
          const DecoyImages noise = {decoys, x.data() + pixels * g.channels};
          std::vector<std::byte> expected(static_cast<size_t>(g.elements()) * sizeof(T)), found(expected.size());
          const KeyUse left{&rows, Form::kDirect}, right{&channels, Form::kDirect};
          blind(made.data(), g, left, right, kOwnType<T>, expected.data(), threads, {}, noise);
          blind(x.data(), g, left, right, kOwnType<T>, found.data(), threads, {.map = &map}, noise);
          EXPECT_TRUE(found == expected);
          if (kind.block > 1 || decoys > 0) continue;
          // What is taken is of what was made.
          const auto vector = random_values<T>(g.channels, random), weights = random_values<T>(pixels, random);
          std::vector<T> planes[2];
          std::vector<double> sums[2];
          for (const bool mapped : {false, true}) {
            planes[mapped].resize(static_cast<size_t>(2 * pixels));
            sums[mapped].resize(static_cast<size_t>(g.channels));
            blind((mapped ? x : made).data(), g, left, right, kOwnType<T>, found.data(), threads,
                  {.map = mapped ? &map : nullptr,
                   .products = {1, vector.data(), planes[mapped].data(), weights.data(), sums[mapped].data()}});
            EXPECT_TRUE(found == expected);
          }
          EXPECT_EQ(planes[0], planes[1]);
          for (size_t c = 0; c < sums[0].size(); ++c) EXPECT_NEAR(sums[0][c], sums[1][c], 1e-3) << c;
        }
}

TEST(OnTheWay, MomentsAreRefusedForMixingKeysOverlapsAndAddends) {
  Random random(kSeed);
  ThreadPool threads(1);
  const TileGeometry overlapping = tile_convolution(1, {8, 3, 1, 1, 1}, {8, 3, 1, 1, 1}, {4, 4}, 4).input;
  const Key four = random_key(4, 1, kPermuted, random), mixed = random_key(4, 1, kRotated, random);
  std::vector<float> x(16), addend(16), shift(4);
  std::vector<double> sums(4), squares(4);
  const Taps moments{.moments = {shift.data(), sums.data(), squares.data()}};
  EXPECT_FALSE(supports(moments, under(overlapping, four, four)));
  EXPECT_FALSE(supports(moments, under(matrix_geometry(4, 4), mixed, four)));
  EXPECT_TRUE(supports(moments, under(matrix_geometry(4, 4), four, four)));
  const std::vector<std::byte> wire(16 * 4);
  const auto taken = [&](const Key& rows, const float* added, double* second) {
    obfuscation::unblind(wire.data(), ElementType::kFloat32, matrix_geometry(4, 4), {&rows, Form::kInverse},
                         {&four, Form::kInverse}, x.data(), threads,
                         {.moments = {shift.data(), sums.data(), second}, .addend = added});
  };
  EXPECT_NO_THROW(taken(four, nullptr, squares.data()));
  EXPECT_THROW(taken(four, nullptr, nullptr), InputError);
  EXPECT_THROW(taken(four, addend.data(), squares.data()), InputError);
  EXPECT_THROW(taken(mixed, nullptr, squares.data()), InputError);
}

}  // namespace on_the_way_test
}  // namespace tempo::obfuscation
