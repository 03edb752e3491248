#include "audit/theft/colours.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "audit/theft/first_layer.h"

namespace tempo::audit {
namespace colours_test {

constexpr int64_t kSide = 32;

/// Pictures of blocks in random colours. With a sky they have what natural pictures have in common: it is bright,
/// smooth and above. Without one their negatives look as likely as they do.
FeatureMaps pictures(int64_t count, bool has_sky, Random& random) {
  std::uniform_real_distribution<double> uniform(0, 1);
  std::normal_distribution<double> normal;
  FeatureMaps maps(count, 3, kSide, kSide);
  for (int64_t i = 0; i < count; ++i) {
    double blocks[4][3];
    for (auto& colour : blocks) {
      const double light = has_sky ? 20 + 140 * uniform(random) * uniform(random) : 40 + 175 * uniform(random);
      colour[0] = light + 60 * (uniform(random) - 0.5);
      colour[1] = light + 20 * (uniform(random) - 0.5);
      colour[2] = light + 40 * (uniform(random) - 0.5);
    }
    const double light = 150 + 90 * uniform(random);
    const double sky[] = {light - 40 * uniform(random), light - 10, light + 15};
    const auto horizon = has_sky ? static_cast<int64_t>(8 + 16 * uniform(random)) : 0;
    for (int64_t y = 0; y < kSide; ++y)
      for (int64_t x = 0; x < kSide; ++x)
        for (int64_t q = 0; q < 3; ++q) {
          const double colour = y < horizon ? sky[q] : blocks[(x / 8 + y / 8 * 3) % 4][q];
          maps.map(i, q)[y * kSide + x] = std::clamp(colour + (y < horizon ? 3 : 15) * normal(random), 0.0, 255.0);
        }
  }
  return maps;
}

/// Black lines at the left, as augmentation puts them in.
void shift_right(FeatureMaps& maps, int64_t by) {
  for (int64_t i = 0; i < maps.images; ++i)
    for (int64_t q = 0; q < 3; ++q)
      for (int64_t y = 0; y < kSide; ++y) std::fill_n(maps.map(i, q) + y * kSide, by, 0.0);
}

FeatureMaps mix(const FeatureMaps& maps, Random& random) {
  const Matrix matrix = random_gaussian(3, 3, random);
  const Vector offset = 100 * random_gaussian(3, 1, random);
  FeatureMaps out = maps;
  for (int64_t i = 0; i < maps.images; ++i)
    for (int64_t p = 0; p < maps.pixels(); ++p)
      for (int64_t q = 0; q < 3; ++q) {
        out.map(i, q)[p] = offset(q);
        for (int64_t c = 0; c < 3; ++c) out.map(i, q)[p] += matrix(q, c) * maps.map(i, c)[p];
      }
  return out;
}

/// The median difference in grey levels.
double error_of(const FeatureMaps& mixed, const ColourMap& map, const FeatureMaps& truth) {
  std::vector<double> errors;
  for (int64_t i = 0; i < truth.images; ++i)
    for (int64_t p = 0; p < truth.pixels(); ++p)
      for (int64_t q = 0; q < 3; ++q) {
        double value = map.offset(q);
        for (int64_t c = 0; c < 3; ++c) value += map.matrix(q, c) * mixed.map(i, c)[p];
        const double error = std::abs(value - truth.map(i, q)[p]);
        errors.push_back(std::isfinite(error) ? error : 255);
      }
  return median(std::move(errors));
}

TEST(MatchColours, FindsTheColoursAndNotTheNegativeImage) {
  for (const uint64_t seed : {0U, 1U}) {
    Random random(seed);
    const FeatureMaps truth = pictures(48, true, random), others = pictures(200, true, random);
    const FeatureMaps mixed = mix(truth, random);
    EXPECT_LE(error_of(mixed, match_colours(mixed, others, random), truth), 25) << "seed " << seed;
  }
}

TEST(MatchColours, AColourAlongManyEdgesIsTakenForBlack) {
  for (const uint64_t seed : {0U, 2U, 5U}) {
    Random random(seed);
    FeatureMaps truth = pictures(48, false, random);
    const FeatureMaps others = pictures(200, false, random);
    shift_right(truth, 3);
    const FeatureMaps mixed = mix(truth, random);
    const ColourMap map = match_colours(mixed, others, random);
    Vector black(3);
    for (int64_t q = 0; q < 3; ++q) black(q) = mixed.map(0, q)[5 * kSide + 2];
    EXPECT_LE((map.matrix * black + map.offset).maxCoeff(), 100) << "seed " << seed;
  }
}

TEST(MatchColours, ImagesWithoutAPlausiblePixelAreLeftUnchanged) {
  Random random(1);
  const FeatureMaps unknown(4, 3, kSide, kSide);
  const ColourMap map = match_colours(unknown, pictures(20, true, random), random);
  EXPECT_EQ(map.matrix, Matrix::Identity(3, 3));
  EXPECT_EQ(map.offset, Vector::Zero(3));
}

TEST(KnownColours, UndoesTheMixExactly) {
  Random random(2);
  const FeatureMaps truth = pictures(8, true, random), mixed = mix(truth, random);
  EXPECT_LE(error_of(mixed, known_colours(mixed, truth), truth), 1e-6);
}

}  // namespace colours_test
}  // namespace tempo::audit
