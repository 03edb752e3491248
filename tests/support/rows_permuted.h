/// A protection of the tests' own, in one file: rows are permuted and get random signs, channels are left alone. It
/// protects nobody; it shows what a new protection has to write.
#pragma once

#include <memory>
#include <utility>

#include "obfuscation/protection.h"

namespace tempo::testing {

class RowsPermuted final : public obfuscation::Protection {
 public:
  [[nodiscard]] obfuscation::Key row_key(Csprng& random, uint32_t size) const override {
    obfuscation::KeyRound round{.source = random.permutation(size), .scale = std::vector<float>(size), .block = 1};
    for (float& scale : round.scale) scale = random.coin() ? 1.0F : -1.0F;
    obfuscation::Key key{.size = size, .rounds = {}};
    key.rounds.push_back(std::move(round));
    return key;
  }
  [[nodiscard]] obfuscation::Key channel_key(Csprng&, uint32_t size) const override {
    return {.size = size, .rounds = {}};
  }
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  [[nodiscard]] int row_rounds(uint64_t) const override { return 1; }
  [[nodiscard]] int channel_rounds() const override { return 0; }
  [[nodiscard]] bool protects() const override { return false; }
  [[nodiscard]] std::string_view leak() const override { return "Workers see every row as it is, but for its sign."; }
  [[nodiscard]] double key_bits(int64_t size, int) const override { return static_cast<double>(size); }
};

inline const obfuscation::RegisteredProtection kRowsPermuted("rows-permuted", [](const BlindingOptions&) {
  return std::make_unique<RowsPermuted>();
});

}  // namespace tempo::testing
