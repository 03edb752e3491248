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

/// Rotated keys for groups of rows.
class Grouped final : public Protection {
 public:
  explicit Grouped(int64_t group) : group_(group) {}
  [[nodiscard]] Key row_key(Csprng& random, uint32_t size) const override { return rotated_->row_key(random, size); }
  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override {
    return rotated_->channel_key(random, size);
  }
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  [[nodiscard]] int row_rounds(uint64_t rows) const override { return rotated_->row_rounds(rows); }
  [[nodiscard]] int channel_rounds() const override { return rotated_->channel_rounds(); }
  [[nodiscard]] int64_t row_group() const override { return group_; }
  [[nodiscard]] bool protects() const override { return false; }
  [[nodiscard]] std::string_view leak() const override { return ""; }
  [[nodiscard]] double key_bits(int64_t, int) const override { return 0; }

 private:
  int64_t group_;
  std::unique_ptr<const Protection> rotated_ = make_protection({});
};

TEST(KeyRing, GroupsOfRowsHaveKeysOfTheirOwnAndMixWithinThemselvesOnly) {
  constexpr int64_t kGroup = 1024, kRows = 2 * kGroup + 333, kChannels = 3;
  const KeyRing keys(key_from_seed_insecure(1), std::make_unique<Grouped>(kGroup));
  const KeyPath path{.layer = "a", .pass = {Period::kStep, 1, 0}};
  const Key key = keys.derive(path, KeyRole::kLeft, kRows);
  ASSERT_EQ(key.rounds.size(), 2U);
  ASSERT_EQ(key.rounds[0].source.size(), static_cast<size_t>(kRows));
  for (const KeyRound& round : key.rounds) {
    for (int64_t i = 0; i < kRows; ++i)
      ASSERT_EQ(round.source[static_cast<size_t>(i)] / kGroup, i / kGroup) << "a row of another group";
    std::vector<uint32_t> first(round.source.begin(), round.source.begin() + kGroup),
        second(round.source.begin() + kGroup, round.source.begin() + 2 * kGroup);
    for (uint32_t& source : second) source -= kGroup;
    EXPECT_NE(first, second);
  }
  // What is blinded of one group depends on that group alone, and comes back.
  const Key one{.size = kChannels, .rounds = {}};
  ThreadPool threads(1);
  std::vector<float> x(static_cast<size_t>(kRows * kChannels)), back(x.size());
  std::vector<std::byte> wire(x.size() * sizeof(float));
  for (int64_t i = kGroup * kChannels; i < 2 * kGroup * kChannels; ++i)
    x[static_cast<size_t>(i)] = 1 + static_cast<float>(i % 7);
  const TileGeometry rows = matrix_geometry(kRows, kChannels);
  blind({rows, {&key, Form::kDirect}, {&one, Form::kDirect}}, {{ElementType::kFloat32, x.data()}}, wire.data(),
        threads);
  const auto* mixed = reinterpret_cast<const float*>(wire.data());
  for (int64_t i = 0; i < kRows * kChannels; ++i) {
    const bool is_second = i / kChannels / kGroup == 1;
    if (!is_second) {
      ASSERT_EQ(mixed[i], 0) << i;
    }
  }
  unblind({rows, {&key, Form::kInverse}, {&one, Form::kInverse}}, wire.data(), {ElementType::kFloat32, back.data()},
          threads);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(back[i], x[i], 1e-5);
  EXPECT_EQ(keys.derive(path, KeyRole::kLeft, kGroup).rounds[0].source,
            ring({}).derive(path, KeyRole::kLeft, kGroup).rounds[0].source)
      << "a single group has the key that all rows have without groups";
}

TEST(KeyRing, GroupsThatBlocksDoNotFitAreRefused) {
  for (const int64_t group : {512, 1000, 1 << 17}) {
    const KeyRing keys(key_from_seed_insecure(1), std::make_unique<Grouped>(group));
    EXPECT_THAT(message_of<InputError>([&] { keys.derive({.layer = "a"}, KeyRole::kLeft, 1 << 18); }),
                HasSubstr("expected a multiple of 256"));
  }
}

TEST(BlindingOptions, CombinationsThatCannotWorkAreRefused) {
  const auto refusal = [](const BlindingOptions& options) {
    return message_of<InputError>([&] { validate(options); });
  };
  EXPECT_THAT(refusal({.protection = "permuted", .weights = WeightPlacement::kResident}), HasSubstr("orthogonal"));
  EXPECT_THAT(refusal({.reuse = Reuse::kFresh, .weights = WeightPlacement::kResident}), HasSubstr("reuse=full"));
  EXPECT_THAT(refusal({.conv_tile = -1}), HasSubstr("conv-tile: got -1, expected 0 to 1024"));
  EXPECT_THAT(refusal({.row_rounds = 9}), HasSubstr("row-rounds"));
  EXPECT_THAT(refusal({.rekey_interval = 0}), HasSubstr("rekey-interval"));
}

}  // namespace key_test
}  // namespace tempo::obfuscation
