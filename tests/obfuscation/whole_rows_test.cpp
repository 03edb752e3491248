// Channel keys that act on whole rows: on all positions of a tile at once.
#include <gtest/gtest.h>

#include <bit>

#include "obfuscation/dense_model.h"
#include "obfuscation/typed_blind.h"

namespace tempo::obfuscation {
namespace whole_rows_test {

using namespace dense;

constexpr uint64_t kSeed = 20261201;

struct Conv {
  int64_t kernel, stride, padding, dilation;
};
constexpr Conv kConvs[] = {{3, 1, 1, 1}, {3, 2, 1, 1}, {2, 2, 0, 1}, {3, 1, 2, 2}, {5, 3, 0, 1}, {1, 2, 0, 1}};

TileGeometry cut_of(const Conv& conv, int64_t images, int64_t channels) {
  TileGeometry g = tile_convolution(images, {9, conv.kernel, conv.stride, conv.padding, conv.dilation},
                                    {7, conv.kernel, conv.stride, conv.padding, conv.dilation}, {channels, 1}, 1)
                       .input;
  g.mixes_positions = true;
  return g;
}

/// A channel key whose last round does not mix, as the oblique protection draws them.
Key row_wide_key(const TileGeometry& g, int rounds, Random& random) {
  Key key = random_key(g.key_channels(), rounds, {"any", 16, false}, random);
  if (rounds > 1) key.rounds.back().block = 1;
  return key;
}

template <typename T>
std::vector<std::byte> blinded(const Blinding& how, const PlainOperand& operand, int threads, const Taps& taps = {}) {
  ThreadPool pool(threads);
  std::vector<std::byte> wire(static_cast<size_t>(how.geometry.elements()) * contract::element_bytes(how.wire));
  blind(how, operand, wire.data(), pool, taps);
  return wire;
}

template <typename T>
Values values_of(const std::vector<std::byte>& wire) {
  std::vector<T> typed(wire.size() / sizeof(T));
  std::memcpy(typed.data(), wire.data(), wire.size());
  return widened(typed);
}

/// Calls `check(geometry, rows, channels)` for every cut and many keys.
template <typename Check>
void for_every_case(const Check& check) {
  Random random(kSeed);
  for (const Conv& conv : kConvs)
    for (const int64_t channels : {1, 6, 16, 40})
      for (const int rounds : {1, 2, 3}) {
        SCOPED_TRACE(fmt::format("kernel={} stride={} padding={} dilation={} channels={} rounds={} seed={}",
                                 conv.kernel, conv.stride, conv.padding, conv.dilation, channels, rounds, kSeed));
        const TileGeometry g = cut_of(conv, 3, channels);
        for (const KeyKind kind : {kRotated, kWideRotated})
          check(g, random_key(g.rows(), rounds, kind, random), row_wide_key(g, rounds, random), random);
      }
}

TEST(WholeRows, BlindingAndUnblindingEqualTheirMatrices) {
  for_every_case([](const TileGeometry& g, const Key& rows, const Key& channels, Random& random) {
    if (g.key_channels() > 400) return;  // dense matrices would take long
    const auto x = random_values<double>(image_elements(g), random);
    const Blinding out = {.geometry = g,
                          .rows = {&rows, Form::kDirect},
                          .channels = {&channels, Form::kInverseTranspose},
                          .wire = ElementType::kFloat64};
    const auto wire = blinded<double>(out, {{ElementType::kFloat64, x.data()}}, 1);
    EXPECT_LT(relative_error(values_of<double>(wire), dense::blind(x, g, out.rows, out.channels)), 1e-11);
    Blinding in = out;
    in.rows.form = Form::kTranspose;
    in.channels.form = Form::kInverse;
    std::vector<double> back(x.size(), 12345);
    ThreadPool threads(2);
    unblind(in, wire.data(), {ElementType::kFloat64, back.data()}, threads);
    EXPECT_LT(relative_error(back, dense::unblind(values_of<double>(wire), g, in.rows, in.channels)), 1e-11);
  });
}

TEST(WholeRows, EveryInstructionSetAndNumberOfThreadsGiveTheSameBits) {
  for_every_case([](const TileGeometry& g, const Key& rows, const Key& channels, Random& random) {
    const auto x = random_values<float>(image_elements(g), random);
    for (const ElementType type : {ElementType::kFloat32, ElementType::kBFloat16}) {
      Blinding out = {.geometry = g,
                      .rows = {&rows, Form::kInverseTranspose},
                      .channels = {&channels, Form::kDirect},
                      .wire = type};
      Blinding in = out;
      in.rows.form = Form::kInverse;
      in.channels.form = Form::kTranspose;
      std::vector<std::byte> wire;
      std::vector<float> back;
      for (const Isa isa : supported_isas())
        for (const int threads : {1, 3}) {
          SCOPED_TRACE(fmt::format("{} threads={}", isa.name, threads));
          const ScopedIsa forced(isa);
          const auto got = blinded<float>(out, {{ElementType::kFloat32, x.data()}}, threads);
          if (wire.empty()) wire = got;
          EXPECT_TRUE(got == wire);
          std::vector<float> restored(x.size(), 12345);
          ThreadPool pool(threads);
          unblind(in, wire.data(), {ElementType::kFloat32, restored.data()}, pool);
          if (back.empty()) back = restored;
          EXPECT_TRUE(restored == back);
        }
    }
  });
}

TEST(WholeRows, DecoysAreImagesAfterTheRealOnesAndDoNotComeBack) {
  for_every_case([](const TileGeometry& g, const Key& rows, const Key& channels, Random& random) {
    const auto x = random_values<float>(image_elements(g), random);
    const auto per_image = static_cast<size_t>(g.height * g.width * g.channels);
    Blinding how = {.geometry = g, .rows = {&rows, Form::kDirect}, .channels = {&channels, Form::kDirect}};
    const auto whole = blinded<float>(how, {{ElementType::kFloat32, x.data()}}, 1);
    how.decoy_images = 1;
    const std::vector<float> decoy(x.end() - static_cast<ptrdiff_t>(per_image), x.end());
    EXPECT_TRUE(whole == blinded<float>(how, {{ElementType::kFloat32, x.data()}, decoy.data()}, 2));

    how.rows.form = how.channels.form = Form::kInverse;
    std::vector<float> some(x.size() - per_image + 1, 12345), all(x.size());
    ThreadPool threads(1);
    unblind(how, whole.data(), {ElementType::kFloat32, some.data()}, threads);
    EXPECT_EQ(some.back(), 12345) << "written past the real images";
    how.decoy_images = 0;
    unblind(how, whole.data(), {ElementType::kFloat32, all.data()}, threads);
    some.pop_back();
    all.resize(some.size());
    EXPECT_TRUE(some == all);
  });
}

TEST(WholeRows, AMapIsAppliedBeforeRowsAreMixed) {
  for_every_case([](const TileGeometry& g, const Key& rows, const Key& channels, Random& random) {
    const auto x = random_values<float>(image_elements(g), random);
    ChannelAffine map{.scale = random_values<float>(g.channels, random),
                      .offset = random_values<float>(g.channels, random),
                      .relu = true};
    std::vector<float> mapped(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t c = i % static_cast<size_t>(g.channels);
      mapped[i] = std::max(std::fma(x[i], map.scale[c], map.offset[c]), 0.0F);
    }
    const Blinding how = {.geometry = g, .rows = {&rows, Form::kDirect}, .channels = {&channels, Form::kDirect}};
    EXPECT_TRUE(blinded<float>(how, {{ElementType::kFloat32, mapped.data()}}, 1) ==
                blinded<float>(how, {{ElementType::kFloat32, x.data()}}, 1, {.map = &map}));
  });
}

TEST(WholeRows, GroupsOfRowsAndPanelsOnTheWireChangeOnlyThePlaceOfValues) {
  Random random(kSeed);
  const TileGeometry g = cut_of(kConvs[0], 12, 16);  // 756 rows of 144
  const Key rows = random_key(g.rows(), 2, kWideRotated, random, 256), channels = row_wide_key(g, 3, random);
  const auto x = random_values<float>(image_elements(g), random);
  Blinding how = {.geometry = g, .rows = {&rows, Form::kDirect}, .channels = {&channels, Form::kDirect}};
  const auto plain = blinded<float>(how, {{ElementType::kFloat32, x.data()}}, 1);
  how.panels = {.width = 16, .rows = 256};
  contract::Buffer panels = contract::Buffer::allocate(
      {.type = ElementType::kFloat32, .shape = {g.rows(), g.key_channels()}, .panels = how.panels});
  ThreadPool threads(2);
  blind(how, {{ElementType::kFloat32, x.data()}}, panels.data(), threads);
  const contract::Buffer in_rows = contract::row_major(panels);
  EXPECT_EQ(std::memcmp(in_rows.data(), plain.data(), plain.size()), 0);
}

TEST(WholeRows, AKeyOfOnePositionIsRefused) {
  Random random(kSeed);
  const TileGeometry g = cut_of(kConvs[0], 1, 4);
  const Key rows = random_key(g.rows(), 1, kRotated, random), channels = random_key(4, 1, kRotated, random);
  std::vector<float> x(static_cast<size_t>(image_elements(g)));
  EXPECT_ANY_THROW(
      blinded<float>({.geometry = g, .rows = {&rows, Form::kDirect}, .channels = {&channels, Form::kDirect}},
                     {{ElementType::kFloat32, x.data()}}, 1));
}

}  // namespace whole_rows_test
}  // namespace tempo::obfuscation
