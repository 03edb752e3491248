/// The protection `rotated`, and the row keys that other protections share with it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "obfuscation/protections/built_in.h"

namespace tempo::obfuscation {

/// Several rounds, each a permutation, random signs, and mixing of blocks by an orthonormal Hadamard matrix.
class Rotated : public Protection {
 public:
  explicit Rotated(const BlindingOptions& options)
      : row_rounds_(options.row_rounds),
        row_group_(static_cast<uint32_t>(options.row_group)),
        decoys_(options.decoys) {}

  [[nodiscard]] Key row_key(Csprng& random, uint32_t size) const override;
  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override;
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  /// As set, or else ceil(log256 rows of a group), but at least 2: the fewest after which an output can depend on every
  /// input of its group. With random permutations it depends on most of them, not all.
  [[nodiscard]] int row_rounds(uint64_t rows) const override;
  [[nodiscard]] int channel_rounds() const override;
  /// A section of a group leaves as one piece, instead of a cache line for every row.
  [[nodiscard]] contract::PanelLayout wire_panels() const override;
  [[nodiscard]] bool mixes_rows() const override { return true; }
  [[nodiscard]] double decoy_energy() const override { return decoys_; }
  [[nodiscard]] double default_decoys() const override { return 3; }
  [[nodiscard]] bool protects() const override { return true; }
  [[nodiscard]] std::string_view leak() const override {
    return "Norms and all singular values of every operand, or of each group of its rows, and the rank of each.";
  }
  [[nodiscard]] double key_bits(int64_t size, int rounds) const override;
  [[nodiscard]] std::vector<std::string_view> settings() const override {
    return {"row-rounds", "row-group", "decoys"};
  }
  [[nodiscard]] double seconds_per_element(const BlindingRates& rates, uint64_t rows) const override {
    return rates.rotate_seconds + (row_rounds(rows) - 1) * rates.row_round_seconds;
  }

 private:
  int row_rounds_;
  uint32_t row_group_;
  double decoys_;
};

}  // namespace tempo::obfuscation
