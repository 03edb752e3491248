/// Keys whose rows are mixed in groups: every group goes through scratch memory by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "obfuscation/blind.h"
#include "obfuscation/dense_model.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace {

using namespace dense;
using tempo::testing::message_of;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20261130;

struct Shape {
  TileGeometry geometry;
  uint32_t group;
  KeyKind rows = kWideRotated;
};

std::vector<Shape> shapes() {
  const ConvAxis axis = {.size = 12, .kernel = 3, .padding = 1};
  const auto cut = [&](int64_t tile) { return tile_convolution(5, axis, axis, {24, 24}, tile); };
  return {{matrix_geometry(800, 40), 256},
          {matrix_geometry(768, 16), 256, kRotated},
          {matrix_geometry(1100, 3), 512},
          {cut(1).input, 256},  // tiles that overlap: un-blinding adds
          {cut(1).output, 256},
          {cut(2).input, 256}};
}

struct Operand {
  std::vector<std::byte> wire;
  std::vector<float> back;
};

Operand there_and_back(const Shape& shape, const Key& rows, const Key& channels, const std::vector<float>& x,
                       ThreadPool& threads) {
  const TileGeometry& g = shape.geometry;
  Operand result = {std::vector<std::byte>(static_cast<size_t>(g.elements()) * sizeof(float)),
                    std::vector<float>(x.size(), 12345)};
  blind({g, {&rows, Form::kDirect}, {&channels, Form::kDirect}}, {{ElementType::kFloat32, x.data()}},
        result.wire.data(), threads);
  unblind({g, {&rows, Form::kTranspose}, {&channels, Form::kTranspose}}, result.wire.data(),
          {ElementType::kFloat32, result.back.data()}, threads);
  return result;
}

TEST(RowGroups, ResultsEqualTheDefinitionForEveryInstructionSetAndNumberOfThreads) {
  Random random(kSeed);
  ThreadPool one(1), three(3), seven(7);
  for (const Shape& shape : shapes())
    for (const int rounds : {2, 3})
      for (const int channel_rounds : {0, 2}) {
        const TileGeometry& g = shape.geometry;
        SCOPED_TRACE(fmt::format("{} rows, {} positions, {} channels, groups of {}, {} and {} rounds", g.rows(),
                                 g.positions(), g.channels, shape.group, rounds, channel_rounds));
        const Key rows = random_key(g.rows(), rounds, shape.rows, random, shape.group);
        const Key channels = random_key(g.channels, channel_rounds, kRotated, random);
        const auto x = random_values<float>(image_elements(g), random);
        const std::vector<double> wide(x.begin(), x.end());
        const Operand expected = there_and_back(shape, rows, channels, x, one);
        Values wire(static_cast<size_t>(g.elements()));
        for (size_t i = 0; i < wire.size(); ++i) {
          float value = 0;
          std::memcpy(&value, expected.wire.data() + i * sizeof(float), sizeof(float));
          wire[i] = double{value};
        }
        EXPECT_LT(relative_error(wire, dense::blind(wide, g, {&rows, Form::kDirect}, {&channels, Form::kDirect})),
                  1e-5);
        EXPECT_LT(relative_error(std::vector<double>(expected.back.begin(), expected.back.end()),
                                 dense::unblind(wire, g, {&rows, Form::kTranspose}, {&channels, Form::kTranspose})),
                  1e-5);
        for (const Isa isa : supported_isas())
          for (ThreadPool* threads : {&one, &three, &seven}) {
            SCOPED_TRACE(fmt::format("{}, {} threads", isa.name, threads->threads()));
            const ScopedIsa forced(isa);
            const Operand result = there_and_back(shape, rows, channels, x, *threads);
            EXPECT_TRUE(result.wire == expected.wire);
            EXPECT_TRUE(result.back == expected.back);
          }
      }
}

TEST(RowGroups, KeysThatMoveRowsBetweenGroupsAreRefused) {
  Random random(kSeed);
  ThreadPool one(1);
  const Shape shape = {matrix_geometry(1024, 16), 256};
  const Key channels = random_key(16, 1, kRotated, random);
  const std::vector<float> x(1024 * 16);
  Key rows = random_key(1024, 2, kWideRotated, random, 256);
  std::swap(rows.rounds[1].source[255], rows.rounds[1].source[256]);
  const auto refusal = [&] { return message_of<InputError>([&] { there_and_back(shape, rows, channels, x, one); }); };
  EXPECT_THAT(refusal(), HasSubstr("round 1 of the row key moves rows between groups of 256"));
  rows.group = 100;
  EXPECT_THAT(refusal(), HasSubstr("groups of 100 rows, expected a multiple of 256"));
}

}  // namespace
}  // namespace tempo::obfuscation
