/// A protection of the tests' own that asks for all that a protection may: keys on groups of rows, several rounds that
/// mix rows and channels, and panels on the wire. It protects nobody.
#pragma once

#include <memory>
#include <utility>

#include "obfuscation/protection.h"

namespace tempo::testing {

class RowsInPanels final : public obfuscation::Protection {
 public:
  static constexpr contract::PanelLayout kPanels = {.width = 16, .rows = 256};
  static constexpr uint32_t kGroup = 1024;

  [[nodiscard]] obfuscation::Key row_key(Csprng& random, uint32_t size) const override {
    return draw(random, {.size = size, .rounds = {}, .group = size > kGroup ? kGroup : 0}, 2, 256);
  }
  [[nodiscard]] obfuscation::Key channel_key(Csprng& random, uint32_t size) const override {
    return draw(random, {.size = size, .rounds = {}}, 1, 16);
  }
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  [[nodiscard]] int row_rounds(uint64_t) const override { return 2; }
  [[nodiscard]] int channel_rounds() const override { return 1; }
  [[nodiscard]] contract::PanelLayout wire_panels() const override { return kPanels; }
  [[nodiscard]] bool mixes_rows() const override { return true; }
  [[nodiscard]] bool protects() const override { return false; }
  [[nodiscard]] std::string_view leak() const override { return "It is not known what workers learn."; }
  [[nodiscard]] double key_bits(int64_t size, int rounds) const override { return static_cast<double>(size * rounds); }

 private:
  static obfuscation::Key draw(Csprng& random, obfuscation::Key key, int rounds, uint32_t block) {
    for (int i = 0; i < rounds; ++i) {
      obfuscation::KeyRound round{
          .source = i == 0 ? random.permutation(key.size) : obfuscation::permutation_within_groups(random, key),
          .scale = std::vector<float>(key.size),
          .block = block};
      for (float& scale : round.scale) scale = random.coin() ? 1.0F : -1.0F;
      key.rounds.push_back(std::move(round));
    }
    return key;
  }
};

inline const obfuscation::RegisteredProtection kRowsInPanels("rows-in-panels", [](const BlindingOptions&) {
  return std::make_unique<RowsInPanels>();
});

}  // namespace tempo::testing
