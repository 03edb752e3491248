// Rows that are blinded and un-blinded slice by slice: the same bytes, in order, from wherever they lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "obfuscation/blind.h"
#include "obfuscation/dense_model.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace {

using namespace dense;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20261126;

std::vector<TileGeometry> geometries() {
  return {matrix_geometry(1000, 24), matrix_geometry(16, 8),
          tile_convolution(8, {12, 3, 1, 1, 1}, {12, 3, 1, 1, 1}, 17, 8, 1).input,
          tile_convolution(40, {8, 3, 1, 1, 1}, {8, 3, 1, 1, 1}, 16, 8, 4).input,
          tile_convolution(40, {8, 3, 1, 1, 1}, {8, 3, 1, 1, 1}, 16, 8, 4).output};
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

  [[nodiscard]] std::vector<float> blinded(const BlindSlices& slices = {}) {
    std::vector<float> wire(static_cast<size_t>(geometry.elements()));
    blind(x.data(), geometry, {&rows, Form::kDirect}, {&channels, Form::kDirect}, ElementType::kFloat32,
          reinterpret_cast<std::byte*>(wire.data()), threads, {.slices = slices});
    return wire;
  }
  [[nodiscard]] std::vector<float> unblinded(const std::vector<float>& wire, const UnblindSlices& slices = {}) {
    std::vector<float> image(x.size(), -777);
    const auto* in = slices.rows.empty() ? reinterpret_cast<const std::byte*>(wire.data()) : nullptr;
    unblind(in, ElementType::kFloat32, geometry, {&rows, Form::kTranspose}, {&channels, Form::kTranspose}, image.data(),
            threads, {.slices = slices});
    return image;
  }
};

TEST(Slices, BlindingInSlicesGivesTheSameBytesInOrder) {
  Random random(kSeed);
  for (const TileGeometry& g : geometries())
    for (const auto& [kind, rounds] : kinds())
      for (const int64_t count : {1, 2, 3, 50}) {
        SCOPED_TRACE(
            fmt::format("{} x {}, {} rounds of {}, {} slices", g.rows(), g.channels, rounds, kind.block, count));
        Case of(g, kind, rounds, random);
        const std::vector<RowRange> slices = slice_rows(of.rows, count);
        const std::vector<float> wire = of.blinded();
        std::vector<RowRange> finished;
        EXPECT_EQ(of.blinded({slices, [&](const RowRange& rows) { finished.push_back(rows); }}), wire);
        EXPECT_EQ(finished, slices);
        // Each slice in memory of its own.
        const auto row_elements = static_cast<size_t>(g.positions() * g.channels);
        std::vector<std::vector<float>> parts;
        for (const RowRange& rows : slices)
          parts.emplace_back(wire.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(rows.begin) * row_elements),
                             wire.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(rows.end) * row_elements));
        size_t next = 0;
        const auto arrive = [&](const RowRange& rows) {
          EXPECT_EQ(rows, slices[next]);
          return reinterpret_cast<const std::byte*>(parts[next++].data());
        };
        EXPECT_EQ(of.unblinded(wire, {slices, arrive}), of.unblinded(wire));
        EXPECT_EQ(next, slices.size());
      }
}

TEST(Slices, SlicesAreWholeSectionsThatCoverAllRows) {
  Random random(kSeed);
  for (const int64_t rows : {1, 255, 256, 257, 5000})
    for (const int64_t count : {1, 2, 7, 100}) {
      const std::vector<RowRange> slices = slice_rows(random_key(rows, 1, kPermuted, random), count);
      EXPECT_LE(slices.size(), static_cast<size_t>(count));
      EXPECT_EQ(slices.front().begin, 0);
      EXPECT_EQ(slices.back().end, rows);
      for (size_t i = 1; i < slices.size(); ++i) {
        EXPECT_EQ(slices[i].begin, slices[i - 1].end);
        EXPECT_EQ(slices[i].begin % 256, 0);
      }
      for (const RowRange& slice : slices) EXPECT_GT(slice.count(), 0);
    }
  EXPECT_EQ(slice_rows(random_key(5000, 2, {"all", 16, true}, random), 4), (std::vector<RowRange>{{0, 5000}}));
}

TEST(Slices, SlicesNotMadeBySliceRowsAreRefused) {
  Random random(kSeed);
  Case of(matrix_geometry(1000, 8), kPermuted, 1, random);
  const auto nothing = [](const RowRange&) {};
  try {
    (void)of.blinded({{{0, 100}, {100, 1000}}, nothing});
    FAIL() << "slices across groups were accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("2 slices of 1000 rows, expected those of slice_rows"));
  }
}

}  // namespace
}  // namespace tempo::obfuscation
