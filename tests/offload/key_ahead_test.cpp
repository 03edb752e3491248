// Keys that are derived before they are asked for are those that would be derived then.
#include "offload/key_ahead.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tempo::offload {
namespace key_ahead_test {

using obfuscation::KeyPath;
using obfuscation::KeyRing;
using obfuscation::KeyRole;
using obfuscation::Pass;
using obfuscation::Period;

struct Ask {
  std::string layer;
  uint64_t item = 0;
  KeyRole role = KeyRole::kLeft;
  uint32_t size = 0;
};

class KeyAheadTest : public ::testing::Test {
 protected:
  void expect_keys(const std::vector<Ask>& asks, const Pass& pass) {
    for (const Ask& ask : asks) {
      const KeyPath path{.layer = ask.layer, .pass = pass, .item = ask.item};
      const auto got = ahead_.derive(path, ask.role, ask.size);
      const obfuscation::Key expected = keys_.derive(path, ask.role, ask.size);
      ASSERT_EQ(got->size, expected.size);
      for (size_t i = 0; i < expected.rounds.size(); ++i) {
        EXPECT_EQ(got->rounds[i].source, expected.rounds[i].source) << ask.layer;
        EXPECT_EQ(got->rounds[i].scale, expected.rounds[i].scale) << ask.layer;
      }
    }
  }

  KeyRing keys_{key_from_seed_insecure(5), obfuscation::make_protection({.protection = "permuted"})};
  KeyAhead ahead_{keys_};
};

std::vector<Ask> some_layers() {
  std::vector<Ask> asks;
  for (const char* layer : {"a", "b", "c"})
    for (const KeyRole role : {KeyRole::kLeft, KeyRole::kInner, KeyRole::kRight})
      asks.push_back({layer, 0, role, role == KeyRole::kLeft ? 5000U : 64U});
  for (uint64_t item = 0; item < 20; ++item) asks.push_back({"attention", item, KeyRole::kLeft, 65});
  return asks;
}

TEST_F(KeyAheadTest, KeysDerivedAheadEqualKeysDerivedInTurn) {
  const std::vector<Ask> asks = some_layers();
  for (uint64_t step = 0; step < 5; ++step) {
    const Pass pass{Period::kStep, step, 0};
    ahead_.begin_pass(pass);
    const bool all_are_there = step % 2 == 1;
    if (all_are_there) ahead_.wait_for_foreseen();
    expect_keys(asks, pass);
    if (all_are_there) EXPECT_EQ(ahead_.taken_ahead(), asks.size());
    if (step == 0) EXPECT_EQ(ahead_.taken_ahead(), 0U);  // nothing was foreseen
  }
}

TEST_F(KeyAheadTest, APassThatDiffersFromTheLastGetsTheRightKeys) {
  std::vector<Ask> asks = some_layers();
  for (uint64_t step = 0; step < 6; ++step) {
    const Pass pass{Period::kStep, step, 0};
    ahead_.begin_pass(pass);
    if (step == 2) asks[3].size = 4000;           // a shorter batch
    if (step == 3) asks.resize(asks.size() / 2);  // a pass that ends early
    if (step == 4) asks.push_back({"d", 0, KeyRole::kLeft, 100});
    expect_keys(asks, pass);
    // An evaluation between two steps.
    const Pass evaluation{Period::kEvaluation, step, step % 2};
    ahead_.begin_pass(evaluation);
    expect_keys({{"a", 0, KeyRole::kLeft, 300}, {"b", 0, KeyRole::kInner, 64}}, evaluation);
  }
}

TEST_F(KeyAheadTest, KeysOfAnotherPeriodDoNotDisturbThePass) {
  for (uint64_t step = 0; step < 3; ++step) {
    const Pass pass{Period::kStep, step, 0};
    ahead_.begin_pass(pass);
    expect_keys({{"a", 0, KeyRole::kLeft, 1000}}, pass);
    expect_keys({{"a", 0, KeyRole::kInner, 64}}, {Period::kResidentEpoch, 7, 0});
    expect_keys({{"b", 0, KeyRole::kLeft, 1000}}, pass);
  }
}

TEST_F(KeyAheadTest, DestructionWorksWhileForeseenKeysWait) {
  std::vector<Ask> large;
  for (uint64_t item = 0; item < 40; ++item) large.push_back({"large", item, KeyRole::kLeft, 300'000});  // 96 MB
  ahead_.begin_pass({Period::kStep, 0, 0});
  expect_keys(large, {Period::kStep, 0, 0});
  ahead_.begin_pass({Period::kStep, 1, 0});
  expect_keys({large.begin(), large.begin() + 30}, {Period::kStep, 1, 0});
}

}  // namespace key_ahead_test
}  // namespace tempo::offload
