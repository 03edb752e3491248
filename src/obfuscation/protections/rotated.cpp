#include <algorithm>
#include <utility>

#include "obfuscation/protections/built_in.h"

namespace tempo::obfuscation {
namespace {

constexpr uint32_t kRowBlock = 256, kChannelBlock = 16;
constexpr int kChannelRounds = 2;
/// After a single round, rows in the smallest blocks of a ragged end would be mixed with few others, and the last with
/// none.
constexpr int kLeastRowRounds = 2;

/// Several rounds, each a permutation, random signs, and mixing of blocks by an orthonormal Hadamard matrix.
class Rotated final : public Protection {
 public:
  Rotated(int row_rounds, double decoys) : row_rounds_(row_rounds), decoys_(decoys) {}

  [[nodiscard]] Key row_key(Csprng& random, uint32_t size) const override {
    return draw(random, size, row_rounds(size), kRowBlock);
  }
  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override {
    return draw(random, size, kChannelRounds, kChannelBlock);
  }
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  /// As set, or else ceil(log256 rows), but at least 2: the fewest after which an output can depend on every input.
  /// With random permutations it depends on most of them, not all.
  [[nodiscard]] int row_rounds(uint64_t rows) const override {
    if (row_rounds_ > 0) return row_rounds_;
    int rounds = 1;
    for (uint64_t mixed = kRowBlock; mixed < rows; mixed *= kRowBlock) ++rounds;
    return std::max(rounds, kLeastRowRounds);
  }
  [[nodiscard]] int channel_rounds() const override { return kChannelRounds; }
  [[nodiscard]] bool mixes_rows() const override { return true; }
  [[nodiscard]] double decoy_energy() const override { return decoys_; }
  [[nodiscard]] bool protects() const override { return true; }
  [[nodiscard]] std::string_view leak() const override {
    return "Norms and all singular values of every operand, and the rank of each.";
  }
  [[nodiscard]] double key_bits(int64_t size, int rounds) const override {
    return rounds * (permutation_bits(size) + static_cast<double>(size));
  }
  [[nodiscard]] std::vector<std::string_view> settings() const override { return {"row-rounds", "decoys"}; }
  [[nodiscard]] double seconds_per_element(const BlindingRates& rates, uint64_t rows) const override {
    return rates.rotate_seconds + (row_rounds(rows) - 1) * rates.row_round_seconds;
  }

 private:
  static Key draw(Csprng& random, uint32_t size, int rounds, uint32_t block) {
    Key key{.size = size, .rounds = {}};
    for (int i = 0; i < rounds; ++i) {
      KeyRound round{.source = random.permutation(size), .scale = std::vector<float>(size), .block = block};
      uint32_t bits = 0;
      for (uint32_t j = 0; j < size; ++j) {
        if (j % 32 == 0) bits = random.next_u32();
        round.scale[j] = (bits >> (j % 32) & 1U) != 0 ? 1.0F : -1.0F;
      }
      key.rounds.push_back(std::move(round));
    }
    return key;
  }

  int row_rounds_;
  double decoys_;
};

}  // namespace

std::unique_ptr<const Protection> make_rotated(const BlindingOptions& options) {
  return std::make_unique<Rotated>(options.row_rounds, options.decoys);
}

}  // namespace tempo::obfuscation
