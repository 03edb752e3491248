// Keys: independent paths, valid permutations, the ranges each scheme promises.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "obfuscation/blind.h"
#include "obfuscation/key_ring.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace key_test {

using ::testing::HasSubstr;
using testing::message_of;

KeyRing ring(const BlindingOptions& options, uint64_t secret = 1) {
  return {key_from_seed_insecure(secret), make_protection(options)};
}

std::vector<uint32_t> order(const KeyRing& keys, const KeyPath& path, KeyRole role = KeyRole::kInner) {
  return keys.derive(path, role, 40).rounds.front().source;
}

TEST(KeyRing, EveryPartOfThePathChangesTheKey) {
  const KeyRing keys = ring({});
  const KeyPath base{.layer = "a", .pass = {Period::kStep, 1, 0}};
  std::set<std::vector<uint32_t>> seen;
  const auto add = [&](auto change) {
    KeyPath path = base;
    change(path);
    seen.insert(order(keys, path));
  };
  add([](KeyPath&) {});
  add([](KeyPath& p) { p.layer = "b"; });
  add([](KeyPath& p) { p.pass.period = Period::kEvaluation; });
  add([](KeyPath& p) { p.pass.period = Period::kResidentEpoch; });
  add([](KeyPath& p) { p.pass.number = 2; });
  add([](KeyPath& p) { p.pass.batch = 1; });
  add([](KeyPath& p) { p.call = 1; });
  add([](KeyPath& p) { p.item = 1; });
  add([](KeyPath& p) { p.purpose = 1; });
  seen.insert(order(keys, base, KeyRole::kRight));
  seen.insert(order(keys, base, KeyRole::kLeft));
  seen.insert(order(ring({}, 2), base));
  EXPECT_EQ(seen.size(), 12U);
  EXPECT_EQ(order(keys, base), order(ring({}), base)) << "the same secret and path must give the same key";
}

TEST(Protection, CoefficientsStayInTheirRange) {
  const KeyPath path{.layer = "a", .pass = {}};
  const BlindingOptions integers{.protection = "permuted", .coefficients = Coefficients::kPositiveInteger};
  std::set<float> values;
  const Key whole = ring(integers).derive(path, KeyRole::kInner, 2000);
  for (const float c : whole.rounds.front().scale) values.insert(c);
  EXPECT_EQ(values.size(), 16U);
  EXPECT_EQ(*values.begin(), 1);
  EXPECT_EQ(*values.rbegin(), 16);

  const BlindingOptions reals{.protection = "permuted", .coefficients = Coefficients::kSignedReal};
  int negative = 0, below_one = 0;
  const Key real = ring(reals).derive(path, KeyRole::kInner, 2000);
  for (const float c : real.rounds.front().scale) {
    EXPECT_GE(std::abs(c), 0.25F);
    EXPECT_LE(std::abs(c), 4.0F);
    negative += c < 0 ? 1 : 0;
    below_one += std::abs(c) < 1 ? 1 : 0;
  }
  EXPECT_NEAR(negative, 1000, 120);
  EXPECT_NEAR(below_one, 1000, 120);
}

TEST(Protection, RotatedKeysAreOrthogonalAndMixDeeply) {
  const KeyPath path{.layer = "a", .pass = {}};
  for (const uint32_t size : {1U, 2U, 17U, 130U}) {
    const Key key = ring({}).derive(path, KeyRole::kLeft, size);
    EXPECT_TRUE(key.orthogonal);
    for (const KeyRound& round : key.rounds) {
      EXPECT_EQ(std::set<uint32_t>(round.source.begin(), round.source.end()).size(), size);
      for (const float scale : round.scale) EXPECT_EQ(std::abs(scale), 1);
    }
  }
  const auto rounds = [](uint64_t rows, int asked = 0) {
    return make_protection({.row_rounds = asked})->row_rounds(rows);
  };
  EXPECT_EQ(rounds(1), 2);
  EXPECT_EQ(rounds(256), 2);
  EXPECT_EQ(rounds(65536), 2);
  EXPECT_EQ(rounds(65537), 3);
  EXPECT_EQ(rounds(65536, 4), 4);
  EXPECT_EQ(rounds(65536, 1), 1);
}

TEST(Protection, RotatedRowsAreDrawnFromAllAndThenStayInTheirGroup) {
  constexpr uint32_t kGroup = 1024, kRows = 2 * kGroup + 333;
  const KeyRing keys = ring({.row_group = kGroup});
  const Key key = keys.derive({.layer = "a", .pass = {}}, KeyRole::kLeft, kRows);
  EXPECT_EQ(key.group, kGroup);
  ASSERT_EQ(key.groups(), 2U);
  EXPECT_EQ(key.group_end(1), kRows) << "the last group takes what is left over";
  ASSERT_EQ(key.rounds.size(), 2U);
  for (const KeyRound& round : key.rounds)
    EXPECT_EQ(std::set<uint32_t>(round.source.begin(), round.source.end()).size(), kRows);
  int moved = 0;
  for (uint32_t i = 0; i < kGroup; ++i) moved += key.rounds[0].source[i] >= kGroup;
  EXPECT_NEAR(moved, kGroup * (kRows - kGroup) / kRows, 100) << "the first group has rows of everywhere";
  for (uint32_t i = 0; i < kRows; ++i)
    ASSERT_EQ(key.rounds[1].source[i] < kGroup, i < kGroup) << "the second round moved a row to another group";
  EXPECT_EQ(keys.derive({.layer = "a"}, KeyRole::kLeft, kGroup).group, 0U) << "a single group needs no mark";
  EXPECT_EQ(keys.derive({.layer = "a"}, KeyRole::kInner, kRows).group, 0U) << "channels have no groups";
  EXPECT_EQ(make_protection({.row_group = kGroup})->row_rounds(1 << 20), 2);
}

TEST(Protection, AnOutputOfAGroupDependsOnNearlyAllRowsOfItAndOnNoOther) {
  constexpr uint32_t kGroup = 1024, kRows = 3 * kGroup;
  const Key key = ring({.row_group = kGroup}).derive({.layer = "a", .pass = {}}, KeyRole::kLeft, kRows);
  const Key one{.size = 1, .rounds = {}};
  ThreadPool threads(1);
  std::vector<float> x(kRows), back(kRows);
  std::vector<std::byte> wire(kRows * sizeof(float));
  x[key.rounds[0].source[kGroup + 5]] = 1;
  blind({matrix_geometry(kRows, 1), {&key, Form::kDirect}, {&one, Form::kDirect}}, {{ElementType::kFloat32, x.data()}},
        wire.data(), threads);
  const auto* mixed = reinterpret_cast<const float*>(wire.data());
  int touched = 0;
  for (uint32_t i = 0; i < kRows; ++i) {
    const bool is_of_group = i / kGroup == 1;
    if (!is_of_group) ASSERT_EQ(mixed[i], 0) << i;
    touched += mixed[i] != 0;
  }
  EXPECT_GT(touched, kGroup * 8 / 10);
  unblind({matrix_geometry(kRows, 1), {&key, Form::kInverse}, {&one, Form::kInverse}}, wire.data(),
          {ElementType::kFloat32, back.data()}, threads);
  for (uint32_t i = 0; i < kRows; ++i) ASSERT_NEAR(back[i], x[i], 1e-5);
}

TEST(BlindingOptions, CombinationsThatCannotWorkAreRefused) {
  const auto refusal = [](const BlindingOptions& options) {
    return message_of<InputError>([&] { validate(options); });
  };
  EXPECT_THAT(refusal({.protection = "permuted", .weights = WeightPlacement::kResident}), HasSubstr("orthogonal"));
  EXPECT_THAT(refusal({.reuse = Reuse::kFresh, .weights = WeightPlacement::kResident}), HasSubstr("reuse=full"));
  EXPECT_THAT(refusal({.conv_tile = -1}), HasSubstr("conv-tile: got -1, expected 0 to 1024"));
  EXPECT_THAT(refusal({.row_rounds = 9}), HasSubstr("row-rounds"));
  EXPECT_THAT(refusal({.row_group = 512}), HasSubstr("row-group: got 512, expected 1024 to 32768"));
  EXPECT_THAT(refusal({.row_group = 1100}), HasSubstr("row-group: got 1100, expected a multiple of 256, or all"));
  EXPECT_THAT(refusal({.rekey_interval = 0}), HasSubstr("rekey-interval"));
}

}  // namespace key_test
}  // namespace tempo::obfuscation
