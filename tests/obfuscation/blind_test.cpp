#include "obfuscation/blind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "obfuscation/dense_model.h"
#include "obfuscation/typed_blind.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace blind_test {

using namespace dense;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20240131;

ThreadPool& one_thread() {
  static ThreadPool pool(1);
  return pool;
}

template <typename T>
constexpr ElementType kOwnType = std::is_same_v<T, float> ? ElementType::kFloat32 : ElementType::kFloat64;

/// The wire starts one element into its buffer: nothing may count on more alignment than that.
struct Wire {
  ElementType type;
  std::vector<std::byte> bytes;
  Wire(ElementType t, int64_t elements)
      : type(t), bytes(static_cast<size_t>(elements + 1) * contract::element_bytes(t)) {}
  std::byte* data() { return bytes.data() + contract::element_bytes(type); }
  [[nodiscard]] const std::byte* data() const { return bytes.data() + contract::element_bytes(type); }
  [[nodiscard]] Values values() const {
    Values result;
    const size_t size = contract::element_bytes(type);
    for (const std::byte* at = data(); at != bytes.data() + bytes.size(); at += size) {
      uint64_t bits = 0;
      std::memcpy(&bits, at, size);
      if (type == ElementType::kFloat64) result.push_back(std::bit_cast<double>(bits));
      if (type == ElementType::kFloat32) result.push_back(double{std::bit_cast<float>(static_cast<uint32_t>(bits))});
      if (type == ElementType::kBFloat16)
        result.push_back(double{std::bit_cast<float>(static_cast<uint32_t>(bits << 16))});
    }
    return result;
  }
};

template <typename T>
Wire blinded(const std::vector<T>& x, const TileGeometry& g, KeyUse rows, KeyUse channels,
             ElementType type = kOwnType<T>, ThreadPool& threads = one_thread()) {
  Wire wire(type, g.elements());
  blind(x.data(), g, rows, channels, type, wire.data(), threads);
  return wire;
}

template <typename T>
std::vector<T> unblinded(const Wire& wire, const TileGeometry& g, KeyUse rows, KeyUse channels,
                         ThreadPool& threads = one_thread()) {
  std::vector<T> x(static_cast<size_t>(image_elements(g)), T(12345));  // every element must be overwritten
  unblind(wire.data(), wire.type, g, rows, channels, x.data(), threads);
  return x;
}

/// The same in 64-byte aligned memory.
template <typename T>
struct TensorBuffers {
  contract::Buffer x, wire;
  explicit TensorBuffers(const TileGeometry& g)
      : x(contract::Buffer::allocate({kOwnType<T>, {image_elements(g)}})),
        wire(contract::Buffer::allocate({kOwnType<T>, {g.elements()}})) {}
  [[nodiscard]] T* image() const { return reinterpret_cast<T*>(x.data()); }
};

/// A channels-last convolution with equal kernel, stride, padding and dilation on both axes.
struct Conv {
  int64_t height, width, kernel, stride, padding, dilation, tile;
  [[nodiscard]] ConvTiling cut(int64_t images, int64_t in, int64_t out) const {
    return tile_convolution(images, {height, kernel, stride, padding, dilation},
                            {width, kernel, stride, padding, dilation}, {in, out}, tile);
  }
  [[nodiscard]] std::string name() const {
    return fmt::format("{}x{} kernel={} stride={} padding={} dilation={} tile={} seed={}", height, width, kernel,
                       stride, padding, dilation, tile, kSeed);
  }
};

std::vector<Conv> convolutions() {
  std::vector<Conv> all;
  for (const int64_t tile : {1, 4, 0})
    for (const int64_t stride : {1, 2})
      for (const auto& [kernel, padding, dilation] : {std::array{1, 0, 1}, {3, 1, 1}, {3, 2, 2}, {3, 0, 1}, {1, 1, 1}})
        for (const auto& [height, width] : {std::pair{7, 5}, {8, 8}})
          all.push_back({height, width, kernel, stride, padding, dilation, tile});
  return all;
}

template <typename T>
void check_forms_against_dense(double tolerance) {
  Random random(kSeed);
  for (const int64_t rows : {1, 2, 13, 16, 37, 180})
    for (const int64_t width : {1, 3, 16, 29})
      for (const uint32_t block : {1, 2, 4, 8, 16, 32, 256})
        for (const int rounds : {1, 2, 3}) {
          SCOPED_TRACE(fmt::format("{}x{} block={} rounds={} seed={}", rows, width, block, rounds, kSeed));
          const KeyKind kind = {"any", block, rounds == 2};
          const Key left = random_key(rows, rounds, kind, random);
          const Key inner = random_key(width, rounds, of_channels(kind), random);
          const TileGeometry g = matrix_geometry(rows, width);
          const auto x = random_values<T>(rows * width, random);
          for (const Form form : {Form::kDirect, Form::kInverseTranspose}) {
            const Form other = form == Form::kDirect ? Form::kInverseTranspose : Form::kDirect;
            EXPECT_LT(relative_error(blinded(x, g, {&left, form}, {&inner, other}).values(),
                                     dense::blind(widened(x), g, {&left, form}, {&inner, other})),
                      tolerance);
          }
          Wire wire(kOwnType<T>, rows * width);
          std::memcpy(wire.data(), x.data(), x.size() * sizeof(T));
          for (const Form form : {Form::kInverse, Form::kTranspose}) {
            const Form other = form == Form::kInverse ? Form::kTranspose : Form::kInverse;
            EXPECT_LT(relative_error(widened(unblinded<T>(wire, g, {&left, form}, {&inner, other})),
                                     dense::unblind(widened(x), g, {&left, form}, {&inner, other})),
                      tolerance);
          }
        }
}

TEST(Blind, EveryFormEqualsItsMatrixInDouble) { check_forms_against_dense<double>(1e-12); }
TEST(Blind, EveryFormEqualsItsMatrixInFloat) { check_forms_against_dense<float>(1e-4); }

/// Both directions on every instruction set, bit for bit.
template <typename T>
void check_isas(const TileGeometry& g, const Key& rows, const Key& channels, ElementType type, Random& random) {
  const auto x = random_values<T>(image_elements(g), random);
  const Isa reference = supported_isas().back();
  ASSERT_STREQ(reference.name, "reference");
  Wire wire(type, 0);
  std::vector<T> back;
  {
    const ScopedIsa forced(reference);
    wire = blinded(x, g, {&rows, Form::kInverseTranspose}, {&channels, Form::kDirect}, type);
    back = unblinded<T>(wire, g, {&rows, Form::kTranspose}, {&channels, Form::kInverse});
  }
  for (const Isa isa : supported_isas()) {
    SCOPED_TRACE(isa.name);
    const ScopedIsa forced(isa);
    EXPECT_TRUE(wire.bytes == blinded(x, g, {&rows, Form::kInverseTranspose}, {&channels, Form::kDirect}, type).bytes);
    EXPECT_TRUE(back == unblinded<T>(wire, g, {&rows, Form::kTranspose}, {&channels, Form::kInverse}));
  }
}

TEST(Blind, EveryIsaMatchesTheReference) {
  Random random(kSeed);
  for (const int64_t rows : {1, 15, 16, 17, 130, 470})
    for (const int64_t width : {1, 3, 16, 17, 31, 64})
      for (const KeyKind kind : {kPermuted, kRotated, kWideRotated})
        for (const int row_rounds : {0, 1, 2, 3})
          for (const int channel_rounds : {0, 1, 2}) {
            SCOPED_TRACE(fmt::format("{}x{} {} rounds {}/{} seed={}", rows, width, kind.name, row_rounds,
                                     channel_rounds, kSeed));
            const Key left = random_key(rows, row_rounds, kind, random);
            const Key inner = random_key(width, channel_rounds, of_channels(kind), random);
            const TileGeometry g = matrix_geometry(rows, width);
            check_isas<float>(g, left, inner, ElementType::kFloat32, random);
            check_isas<float>(g, left, inner, ElementType::kBFloat16, random);
            check_isas<double>(g, left, inner, ElementType::kFloat64, random);
          }
}

TEST(Blind, EveryIsaMatchesTheReferenceOnTiles) {
  Random random(kSeed);
  for (const Conv& conv : convolutions())
    for (const int64_t channels : {5, 48}) {
      SCOPED_TRACE(conv.name());
      const TileGeometry g = conv.cut(3, channels, channels).input;
      const Key inner = random_key(channels, 1, kRotated, random);
      for (const KeyKind kind : {kRotated, kWideRotated}) {
        const Key left = random_key(g.rows(), 2, kind, random);
        check_isas<float>(g, left, inner, ElementType::kBFloat16, random);
        check_isas<double>(g, left, inner, ElementType::kFloat64, random);
      }
    }
}

TEST(Blind, BlindedTilesEqualTheDefinition) {
  Random random(kSeed);
  for (const Conv& conv : convolutions())
    for (const int rounds : {0, 1, 2}) {
      SCOPED_TRACE(fmt::format("{} rounds={}", conv.name(), rounds));
      const ConvTiling cut = conv.cut(2, 6, 6);
      for (const TileGeometry& g : {cut.input, cut.output}) {
        const Key left = random_key(g.rows(), rounds, kRotated, random),
                  inner = random_key(6, rounds, kPermuted, random);
        const auto x = random_values<double>(image_elements(g), random);
        const KeyUse rows = {&left, Form::kDirect}, channels = {&inner, Form::kDirect};
        const Wire wire = blinded(x, g, rows, channels);
        EXPECT_LT(relative_error(wire.values(), dense::blind(x, g, rows, channels)), 1e-12);
        const KeyUse rows_back = {&left, Form::kTranspose}, channels_back = {&inner, Form::kInverse};
        EXPECT_LT(relative_error(unblinded<double>(wire, g, rows_back, channels_back),
                                 dense::unblind(wire.values(), g, rows_back, channels_back)),
                  1e-12);
      }
    }
}

TEST(Blind, UnblindingRestoresDisjointTiles) {
  Random random(kSeed);
  for (const Conv& conv : convolutions()) {
    SCOPED_TRACE(conv.name());
    const TileGeometry g = conv.cut(2, 3, 24).output;
    ASSERT_TRUE(g.is_disjoint());
    const Key left = random_key(g.rows(), 2, kRotated, random), inner = random_key(24, 2, kPermuted, random);
    const auto x = random_values<double>(image_elements(g), random);
    const Wire wire = blinded(x, g, {&left, Form::kDirect}, {&inner, Form::kInverseTranspose});
    EXPECT_LT(relative_error(unblinded<double>(wire, g, {&left, Form::kInverse}, {&inner, Form::kTranspose}), x),
              1e-12);
  }
}

TEST(Blind, TransposedUnblindingIsTheAdjointOfBlinding) {
  Random random(kSeed);
  for (const Conv& conv : convolutions()) {
    SCOPED_TRACE(conv.name());
    const TileGeometry g = conv.cut(2, 17, 3).input;
    const Key left = random_key(g.rows(), 2, kPermuted, random), inner = random_key(17, 1, kRotated, random);
    const auto x = random_values<double>(image_elements(g), random);
    const auto y = random_values<double>(g.elements(), random);
    Wire wire(ElementType::kFloat64, g.elements());
    std::memcpy(wire.data(), y.data(), y.size() * sizeof(double));
    const double there = inner_product(blinded(x, g, {&left, Form::kDirect}, {&inner, Form::kDirect}).values(), y);
    const auto back = unblinded<double>(wire, g, {&left, Form::kTranspose}, {&inner, Form::kTranspose});
    EXPECT_NEAR(there, inner_product(x, back), 1e-9 * std::sqrt(inner_product(x, x) * inner_product(y, y)));
  }
}

TEST(Blind, PixelsThatNoTileCoversBecomeZero) {
  Random random(kSeed);
  const TileGeometry g = Conv{5, 5, 1, 2, 0, 1, 4}.cut(2, 16, 16).input;
  const Key left = random_key(g.rows(), 1, kRotated, random), inner = random_key(16, 1, kRotated, random);
  const Wire wire =
      blinded(random_values<float>(image_elements(g), random), g, {&left, Form::kDirect}, {&inner, Form::kDirect});
  const auto x = unblinded<float>(wire, g, {&left, Form::kInverse}, {&inner, Form::kInverse});
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t column = i / 16 % 5, row = i / 80 % 5;
    EXPECT_EQ(x[i] == 0.0f, column % 2 == 1 || row % 2 == 1) << "element " << i << " seed=" << kSeed;
  }
}

TEST(Blind, BFloat16RoundsToNearestEven) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {1.0f,
                                0x1.01p0f,
                                0x1.03p0f,
                                0x1.010002p0f,
                                -0x1.01p0f,
                                0x1.ffp127f,
                                inf,
                                -inf,
                                nan,
                                0x1p-133f,
                                std::bit_cast<float>(0x7f800001u),
                                -0.0f};
  const std::vector<uint16_t> expected = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0xbf80, 0x7f80,
                                          0x7f80, 0xff80, 0x7fc0, 0x0001, 0x7fc0, 0x8000};
  // Sixteen equal rows, so that the vector code and not its tail is at work.
  std::vector<float> rows;
  for (int i = 0; i < 16; ++i)
    for (size_t k = 0; k < 16; ++k) rows.push_back(x[k % x.size()]);
  const Key identity_rows = {.size = 16, .rounds = {}}, identity = {.size = 16, .rounds = {}};
  for (const Isa isa : supported_isas()) {
    SCOPED_TRACE(isa.name);
    const ScopedIsa forced(isa);
    const Wire wire = blinded(rows, matrix_geometry(16, 16), {&identity_rows, Form::kDirect},
                              {&identity, Form::kDirect}, ElementType::kBFloat16);
    for (size_t i = 0; i < rows.size(); ++i) {
      uint16_t bits = 0;
      std::memcpy(&bits, wire.data() + 2 * i, 2);
      EXPECT_EQ(bits, expected[i % 16 % x.size()]) << "element " << i;
    }
  }
}

/// Enough rows and columns for several panels, groups of panels, and more threads than groups.
TEST(Blind, ResultsDoNotDependOnThreads) {
  Random random(kSeed);
  ThreadPool three(3), sixteen(16);
  for (const auto& [rows, width] : {std::pair{5000, 72}, {700, 300}, {4100, 16}})
    for (const int rounds : {1, 2, 3, 4}) {
      SCOPED_TRACE(fmt::format("{}x{} rounds={} seed={}", rows, width, rounds, kSeed));
      const Key left = random_key(rows, rounds, rounds % 2 == 0 ? kWideRotated : kRotated, random);
      const Key inner = random_key(width, 1, kRotated, random);
      const TileGeometry g = matrix_geometry(rows, width);
      const auto x = random_values<float>(g.elements(), random);
      const KeyUse there = {&left, Form::kDirect}, back = {&left, Form::kInverse};
      const KeyUse inner_there = {&inner, Form::kDirect}, inner_back = {&inner, Form::kInverse};
      const Wire wire = blinded(x, g, there, inner_there);
      const auto result = unblinded<float>(wire, g, back, inner_back);
      EXPECT_LT(relative_error(widened(result), widened(x)), 1e-4);
      for (ThreadPool* pool : {&three, &sixteen}) {
        EXPECT_TRUE(wire.bytes == blinded(x, g, there, inner_there, ElementType::kFloat32, *pool).bytes);
        EXPECT_TRUE(result == unblinded<float>(wire, g, back, inner_back, *pool));
      }
      const ScopedIsa reference(supported_isas().back());
      EXPECT_TRUE(wire.bytes == blinded(x, g, there, inner_there, ElementType::kFloat32, three).bytes);
    }
}

/// Operands too large for caches, and aligned: the stores that go past the caches.
template <typename T>
void check_large(const TileGeometry& g, int row_rounds, Random& random, KeyKind kind = kWideRotated) {
  ThreadPool two(2);
  const Key left = random_key(g.rows(), row_rounds, kind, random);
  const Key inner = random_key(g.channels, row_rounds % 2, kRotated, random);
  const auto noise = random_values<T>(image_elements(g), random);
  const TensorBuffers<T> fast(g), slow(g);
  std::copy(noise.begin(), noise.end(), fast.image());
  std::copy(noise.begin(), noise.end(), slow.image());
  const auto there_and_back = [&](const TensorBuffers<T>& b, ThreadPool& pool) {
    blind(b.image(), g, {&left, Form::kDirect}, {&inner, Form::kDirect}, kOwnType<T>, b.wire.data(), pool);
    std::fill(b.image(), b.image() + image_elements(g), T(12345));
    unblind(b.wire.data(), kOwnType<T>, g, {&left, Form::kTranspose}, {&inner, Form::kTranspose}, b.image(), pool);
  };
  there_and_back(fast, two);
  const ScopedIsa reference(supported_isas().back());
  there_and_back(slow, one_thread());
  EXPECT_EQ(std::memcmp(fast.wire.data(), slow.wire.data(), fast.wire.bytes()), 0);
  EXPECT_EQ(std::memcmp(fast.x.data(), slow.x.data(), fast.x.bytes()), 0);
}

TEST(Blind, LargeOperandsMatchTheReference) {
  Random random(kSeed);
  for (const int rounds : {0, 1, 2, 3, 4}) {
    SCOPED_TRACE(fmt::format("rounds={} seed={}", rounds, kSeed));
    check_large<float>(matrix_geometry(16400, 144), rounds, random);
    check_large<float>(matrix_geometry(16400, 144), rounds, random, kRotated);
  }
  check_large<float>(matrix_geometry(16400, 130), 2, random);
  check_large<double>(matrix_geometry(16400, 72), 3, random);
  for (const int64_t tile : {1, 4}) check_large<float>(Conv{16, 16, 3, 1, 1, 1, tile}.cut(64, 64, 64).input, 2, random);
}

TEST(Blind, DecoysAreReadFromTheirOwnMemoryAndNotWrittenBack) {
  Random random(kSeed);
  for (const auto& conv : {Conv{7, 5, 3, 1, 1, 1, 1}, Conv{7, 5, 3, 1, 1, 1, 4}, Conv{8, 8, 1, 2, 0, 1, 1}})
    for (const int rounds : {0, 1, 2, 3}) {
      SCOPED_TRACE(fmt::format("{} rounds={}", conv.name(), rounds));
      const int64_t decoys = 2;
      const TileGeometry g = conv.cut(5, 20, 20).input;
      const Key left = random_key(g.rows(), rounds, kWideRotated, random), inner = random_key(20, 2, kRotated, random);
      const auto all = random_values<float>(image_elements(g), random);
      const auto real = static_cast<std::ptrdiff_t>(image_elements(g) / g.images * (g.images - decoys));
      const std::vector<float> images(all.begin(), all.begin() + real), noise(all.begin() + real, all.end());
      const KeyUse rows = {&left, Form::kDirect}, channels = {&inner, Form::kDirect};
      const KeyUse rows_back = {&left, Form::kTranspose}, channels_back = {&inner, Form::kTranspose};
      const Wire whole = blinded(all, g, rows, channels);
      Wire apart(ElementType::kFloat32, g.elements());
      blind(images.data(), g, rows, channels, ElementType::kFloat32, apart.data(), one_thread(), {},
            {decoys, noise.data()});
      EXPECT_TRUE(whole.bytes == apart.bytes);
      const auto expected = unblinded<float>(whole, g, rows_back, channels_back);
      std::vector<float> back(static_cast<size_t>(real), 12345.0F);
      unblind(whole.data(), ElementType::kFloat32, g, rows_back, channels_back, back.data(), one_thread(), {}, decoys);
      EXPECT_TRUE(std::equal(back.begin(), back.end(), expected.begin()));
    }
}

TEST(Blind, AnEmptyBatchIsAccepted) {
  const Key none = {.size = 0, .rounds = {}}, inner = {.size = 4, .rounds = {}};
  blind<float>(nullptr, matrix_geometry(0, 4), {&none, Form::kDirect}, {&inner, Form::kDirect}, ElementType::kFloat32,
               nullptr, one_thread());
}

template <class Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const InputError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Blind, MisfittingSizesFormsTypesAndAlignmentsAreRefused) {
  Random random(kSeed);
  const Key eight = random_key(8, 1, kRotated, random), four = random_key(4, 1, kRotated, random);
  const std::vector<float> x(32);
  const std::vector<double> x_double(32);
  const auto blind_with = [&](KeyUse rows, KeyUse channels, ElementType type = ElementType::kFloat32) {
    return message_of([&] { blinded(x, matrix_geometry(8, 4), rows, channels, type); });
  };
  const KeyUse rows = {&eight, Form::kDirect}, channels = {&four, Form::kDirect};
  EXPECT_EQ(blind_with({&four, Form::kDirect}, channels), "blind: row key of size 4, expected 8");
  EXPECT_EQ(blind_with(rows, {&eight, Form::kDirect}), "blind: channel key of size 8, expected 4");
  EXPECT_EQ(blind_with(rows, {nullptr, Form::kDirect}), "blind: no channel key, expected one of size 4");
  EXPECT_EQ(blind_with({&eight, Form::kInverse}, channels),
            "blind: row key in form inverse, expected direct or inverse-transpose");
  EXPECT_EQ(blind_with(rows, channels, ElementType::kFloat64),
            "blind: wire type float64 for a float32 tensor, expected float32 or bfloat16");
  EXPECT_EQ(message_of([&] { blinded(x_double, matrix_geometry(8, 4), rows, channels, ElementType::kBFloat16); }),
            "blind: wire type bfloat16 for a float64 tensor, expected float64");
  const Wire wire(ElementType::kFloat32, 32);
  EXPECT_EQ(message_of([&] {
              unblinded<float>(wire, matrix_geometry(8, 4), {&eight, Form::kInverse}, channels);
            }),
            "unblind: channel key in form direct, expected inverse or transpose");

  Key odd = four;
  odd.rounds[0].block = 3;
  EXPECT_EQ(blind_with(rows, {&odd, Form::kDirect}),
            "blind: round 0 of the channel key mixes blocks of 3, expected a power of two up to 16");
  Key cropped = eight;
  cropped.rounds[0].scale.pop_back();
  EXPECT_EQ(blind_with({&cropped, Form::kDirect}, channels),
            "blind: round 0 of the row key has 8 sources and 7 scales, expected 8 of each");
  std::vector<std::byte> room(160);
  EXPECT_THAT(message_of([&] {
                blind(x.data(), matrix_geometry(8, 4), rows, channels, ElementType::kFloat32, room.data() + 1,
                      one_thread());
              }),
              HasSubstr("blind: wire memory is not aligned to its float32 elements, expected a multiple of 4 bytes"));
  const auto with_decoys = [&](DecoyImages decoys) {
    return message_of([&] {
      blind(x.data(), matrix_geometry(8, 4), rows, channels, ElementType::kFloat32, room.data(), one_thread(), {},
            decoys);
    });
  };
  EXPECT_EQ(with_decoys({.images = 9, .pixels = x.data()}), "blind: 9 decoys among 8 images, expected at most as many");
  EXPECT_EQ(with_decoys({.images = 1}), "blind: 1 decoys without pixels, expected them");
  TileGeometry flat = matrix_geometry(8, 4);
  flat.step_x = 0;
  EXPECT_THAT(message_of([&] { blinded(x, flat, rows, channels); }), HasSubstr("expected positive sizes"));
}

}  // namespace blind_test
}  // namespace tempo::obfuscation
