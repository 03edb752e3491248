// Blinded operands in panels: the same elements as row by row, on every instruction set and however they are cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "obfuscation/blind.h"
#include "obfuscation/dense_model.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace panels_test {

using namespace dense;
using contract::Buffer;
using contract::PanelLayout;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20261130;

/// Cuts whose last block of rows is shorter than the others, and one that is shorter than a block.
std::vector<TileGeometry> geometries() {
  return {matrix_geometry(1000, 48), matrix_geometry(100, 16),
          tile_convolution(8, {12, 3, 1, 1, 1}, {12, 3, 1, 1, 1}, {32, 48}, 1).input,
          tile_convolution(40, {8, 3, 1, 1, 1}, {8, 3, 1, 1, 1}, {16, 96}, 4).input,
          tile_convolution(40, {8, 3, 1, 1, 1}, {8, 3, 1, 1, 1}, {16, 96}, 4).output};
}

std::vector<PanelLayout> layouts(int64_t channels) {
  std::vector<PanelLayout> all;
  for (const int64_t width : {16, 32, 48})
    for (const int64_t rows : {256, 512})
      if (channels % width == 0) all.push_back({width, rows});
  return all;
}

/// Keys that permute, that mix groups, that mix sections, and that mix further.
std::vector<std::pair<KeyKind, int>> kinds() {
  return {{kPermuted, 1},
          {{"groups", 16, true}, 1},
          {{"sections", 256, true}, 1},
          {{"all", 16, true}, 2},
          {{"all sections", 256, true}, 3}};
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

  [[nodiscard]] Blinding how(Form form, ElementType wire, const PanelLayout& panels) const {
    return {geometry, {&rows, form}, {&channels, form}, wire, 0, panels};
  }
  [[nodiscard]] Buffer blinded(ElementType wire, const PanelLayout& panels, int64_t slices = 1) {
    const Buffer out = Buffer::allocate({wire, {geometry.rows(), geometry.positions() * geometry.channels}, panels});
    Blinder blinder(how(Form::kDirect, wire, panels), {{ElementType::kFloat32, x.data()}}, out.data(), threads);
    for (const RowRange& some : slice_rows(rows, panels, slices)) blinder.rows(some);
    blinder.finish();
    return out;
  }
  [[nodiscard]] std::vector<float> unblinded(const Buffer& wire, int64_t slices = 1) {
    std::vector<float> image(x.size(), -777);
    Unblinder unblinder(how(Form::kTranspose, wire.spec().type, wire.spec().panels),
                        {ElementType::kFloat32, image.data()}, threads);
    for (const RowRange& some : slice_rows(rows, wire.spec().panels, slices)) {
      const auto row_bytes = static_cast<int64_t>(wire.bytes()) / geometry.rows();
      unblinder.rows(some, wire.data() + some.begin * row_bytes);
    }
    unblinder.finish();
    return image;
  }
};

std::vector<std::byte> bytes_of(const Buffer& buffer) { return {buffer.data(), buffer.data() + buffer.bytes()}; }

TEST(Panels, BlindingGivesTheElementsOfRowMajorOperands) {
  Random random(kSeed);
  for (const TileGeometry& g : geometries())
    for (const auto& [kind, rounds] : kinds()) {
      Case of(g, kind, rounds, random);
      for (const ElementType wire : {ElementType::kFloat32, ElementType::kBFloat16})
        for (const Isa& isa : supported_isas()) {
          const ScopedIsa scoped(isa);
          const Buffer rows = of.blinded(wire, {});
          for (const PanelLayout& panels : layouts(g.channels))
            for (const int64_t slices : {1, 3}) {
              SCOPED_TRACE(fmt::format("{} x {} x {}, {} rounds of {}, panels {} by {}, {} slices, {}, seed {}",
                                       g.rows(), g.positions(), g.channels, rounds, kind.block, panels.width,
                                       panels.rows, slices, isa.name, kSeed));
              const Buffer in_panels = of.blinded(wire, panels, slices);
              EXPECT_EQ(bytes_of(contract::row_major(in_panels)), bytes_of(rows));
              EXPECT_EQ(of.unblinded(in_panels, slices), of.unblinded(rows));
            }
        }
    }
}

TEST(Panels, TheLayoutIsThatOfTheContract) {
  Random random(kSeed);
  Case of(matrix_geometry(300, 32), kPermuted, 1, random);
  const Buffer rows = of.blinded(ElementType::kFloat32, {}), panels = of.blinded(ElementType::kFloat32, {16, 256});
  const auto at = [](const Buffer& buffer, int64_t index) {
    float value = 0;
    std::memcpy(&value, buffer.data() + 4 * index, sizeof value);
    return value;
  };
  for (int64_t r = 0; r < 300; ++r)
    for (int64_t c = 0; c < 32; ++c) {
      const int64_t first = r / 256 * 256, count = first == 0 ? 256 : 44;
      EXPECT_EQ(at(panels, first * 32 + (c / 16 * count + r - first) * 16 + c % 16), at(rows, r * 32 + c));
    }
}

TEST(Panels, PanelsOfOtherSizesAreRefused) {
  Random random(kSeed);
  Case of(matrix_geometry(300, 48), kPermuted, 1, random);
  const auto refusal = [&](const PanelLayout& panels) {
    std::vector<float> out(of.x.size());
    return testing::message_of<InputError>([&] {
      blind(of.how(Form::kDirect, ElementType::kFloat32, panels), {{ElementType::kFloat32, of.x.data()}},
            reinterpret_cast<std::byte*>(out.data()), of.threads);
    });
  };
  EXPECT_THAT(refusal({32, 256}), HasSubstr("whole panels"));
  for (const PanelLayout& panels : {PanelLayout{8, 256}, {80, 256}, {16, 100}, {16, 0}, {0, 256}, {16, 1 << 17}})
    EXPECT_THAT(refusal(panels), HasSubstr("multiples of 16 up to 64 by 256 up to 65536"));
}

}  // namespace panels_test
}  // namespace tempo::obfuscation
