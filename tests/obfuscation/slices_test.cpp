// Rows that are blinded and un-blinded slice by slice: the same bytes, in order, from wherever they lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "obfuscation/blind.h"
#include "obfuscation/dense_model.h"
#include "obfuscation/typed_blind.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace slices_test {

using namespace dense;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20261126;

std::vector<TileGeometry> geometries() {
  // Slices of the first are no multiples of the rows that are staged together.
  return {matrix_geometry(12'288, 48),
          matrix_geometry(1000, 24),
          matrix_geometry(16, 8),
          tile_convolution(8, {12, 3, 1, 1, 1}, {12, 3, 1, 1, 1}, {17, 8}, 1).input,
          tile_convolution(40, {8, 3, 1, 1, 1}, {8, 3, 1, 1, 1}, {16, 8}, 4).input,
          tile_convolution(40, {8, 3, 1, 1, 1}, {8, 3, 1, 1, 1}, {16, 8}, 4).output};
}

/// Keys that permute, that mix groups, that mix sections, and that mix further.
std::vector<std::pair<KeyKind, int>> kinds() {
  return {{kPermuted, 1}, {{"groups", 16, true}, 1}, {{"sections", 256, true}, 1}, {{"all", 16, true}, 2}};
}

struct Case {
  TileGeometry geometry;
  Key rows, channels;
  std::vector<float> x;
  ThreadPool threads{2};

  Case(const TileGeometry& cut, const KeyKind& kind, int rounds, Random& random)
      : geometry(cut),
        rows(random_key(cut.rows(), rounds, kind, random)),
        channels(random_key(cut.channels, 1, of_channels(kind), random)),
        x(random_values<float>(image_elements(cut), random)) {}

  [[nodiscard]] Blinding how(Form form) const {
    return {geometry, {&rows, form}, {&channels, form}, ElementType::kFloat32};
  }
  [[nodiscard]] std::vector<float> blinded(const std::vector<RowRange>& slices) {
    std::vector<float> wire(static_cast<size_t>(geometry.elements()));
    Blinder blinder(how(Form::kDirect), {{ElementType::kFloat32, x.data()}}, reinterpret_cast<std::byte*>(wire.data()),
                    threads);
    for (const RowRange& slice : slices) blinder.rows(slice);
    blinder.finish();
    return wire;
  }
  /// @param parts the rows of each slice, each in memory of its own
  [[nodiscard]] std::vector<float> unblinded(const std::vector<RowRange>& slices,
                                             const std::vector<std::vector<float>>& parts) {
    std::vector<float> image(x.size(), -777);
    Unblinder unblinder(how(Form::kTranspose), {ElementType::kFloat32, image.data()}, threads);
    for (size_t i = 0; i < slices.size(); ++i)
      unblinder.rows(slices[i], reinterpret_cast<const std::byte*>(parts[i].data()));
    unblinder.finish();
    return image;
  }
  [[nodiscard]] std::vector<RowRange> all() const { return {{0, geometry.rows()}}; }
};

TEST(Slices, BlindingInSlicesGivesTheSameBytesInOrder) {
  Random random(kSeed);
  for (const TileGeometry& g : geometries())
    for (const auto& [kind, rounds] : kinds())
      for (const int64_t count : {1, 2, 3, 50}) {
        SCOPED_TRACE(
            fmt::format("{} x {}, {} rounds of {}, {} slices", g.rows(), g.channels, rounds, kind.block, count));
        Case of(g, kind, rounds, random);
        const std::vector<RowRange> slices = slice_rows(of.rows, {}, count);
        const std::vector<float> wire = of.blinded(of.all());
        EXPECT_EQ(of.blinded(slices), wire);
        const auto row_elements = static_cast<size_t>(g.positions() * g.channels);
        std::vector<std::vector<float>> parts;
        for (const RowRange& rows : slices)
          parts.emplace_back(wire.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(rows.begin) * row_elements),
                             wire.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(rows.end) * row_elements));
        EXPECT_EQ(of.unblinded(slices, parts), of.unblinded(of.all(), {wire}));
      }
}

TEST(Slices, SlicesAreWholeSectionsThatCoverAllRows) {
  Random random(kSeed);
  for (const int64_t rows : {1, 255, 256, 257, 5000})
    for (const int64_t count : {1, 2, 7, 100}) {
      const std::vector<RowRange> slices = slice_rows(random_key(rows, 1, kPermuted, random), {}, count);
      EXPECT_LE(slices.size(), static_cast<size_t>(count));
      EXPECT_EQ(slices.front().begin, 0);
      EXPECT_EQ(slices.back().end, rows);
      for (size_t i = 1; i < slices.size(); ++i) {
        EXPECT_EQ(slices[i].begin, slices[i - 1].end);
        EXPECT_EQ(slices[i].begin % 256, 0);
      }
      for (const RowRange& slice : slices) EXPECT_GT(slice.count(), 0);
    }
  EXPECT_EQ(slice_rows(random_key(5000, 2, {"all", 16, true}, random), {}, 4), (std::vector<RowRange>{{0, 5000}}));
}

TEST(Slices, SlicesKeepBlocksOfPanelsWhole) {
  Random random(kSeed);
  const Key key = random_key(5000, 1, kPermuted, random);
  EXPECT_EQ(slice_rows(key, {16, 2048}, 9), (std::vector<RowRange>{{0, 2048}, {2048, 4096}, {4096, 5000}}));
}

TEST(Slices, SlicesNotMadeBySliceRowsAreRefused) {
  Random random(kSeed);
  Case of(matrix_geometry(1000, 8), kPermuted, 1, random);
  try {
    (void)of.blinded({{0, 100}, {100, 1000}});
    FAIL() << "slices across groups were accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("blind: rows 0 to 100 of 1000 after 0, expected the next ones of slice_rows"));
  }
}

}  // namespace slices_test
}  // namespace tempo::obfuscation
