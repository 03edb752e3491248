/// A protection for measurements: the row keys of `rotated`, and channels that are left alone. It says what a scheme
/// costs that mixes rows only; nobody has shown that it protects.
#pragma once

#include <memory>

#include "obfuscation/protection.h"

namespace tempo::bench {

class RowsOnly final : public obfuscation::Protection {
 public:
  explicit RowsOnly(const BlindingOptions& options) {
    BlindingOptions rotated = options;
    rotated.protection = "rotated";
    rotated_ = obfuscation::make_protection(rotated);
  }

  [[nodiscard]] obfuscation::Key row_key(Csprng& random, uint32_t size) const override {
    return rotated_->row_key(random, size);
  }
  [[nodiscard]] obfuscation::Key channel_key(Csprng&, uint32_t size) const override {
    return {.size = size, .rounds = {}};
  }
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  [[nodiscard]] int row_rounds(uint64_t rows) const override { return rotated_->row_rounds(rows); }
  [[nodiscard]] int channel_rounds() const override { return 0; }
  [[nodiscard]] contract::PanelLayout wire_panels() const override { return rotated_->wire_panels(); }
  [[nodiscard]] bool mixes_rows() const override { return true; }
  [[nodiscard]] double decoy_energy() const override { return rotated_->decoy_energy(); }
  [[nodiscard]] bool protects() const override { return false; }
  [[nodiscard]] std::string_view leak() const override { return "Workers see every weight, and mixtures of rows."; }
  [[nodiscard]] double key_bits(int64_t size, int rounds) const override { return rotated_->key_bits(size, rounds); }

 private:
  std::unique_ptr<const obfuscation::Protection> rotated_;
};

}  // namespace tempo::bench
