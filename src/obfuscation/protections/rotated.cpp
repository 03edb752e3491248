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
  explicit Rotated(const BlindingOptions& options)
      : row_rounds_(options.row_rounds),
        row_group_(static_cast<uint32_t>(options.row_group)),
        decoys_(options.decoys) {}

  [[nodiscard]] Key row_key(Csprng& random, uint32_t size) const override {
    return draw(random, {.size = size, .rounds = {}, .group = size > row_group_ ? row_group_ : 0}, row_rounds(size),
                kRowBlock);
  }
  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override {
    return draw(random, {.size = size, .rounds = {}}, kChannelRounds, kChannelBlock);
  }
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  /// As set, or else ceil(log256 rows of a group), but at least 2: the fewest after which an output can depend on every
  /// input of its group. With random permutations it depends on most of them, not all.
  [[nodiscard]] int row_rounds(uint64_t rows) const override {
    if (row_rounds_ > 0) return row_rounds_;
    if (row_group_ > 0) rows = std::min<uint64_t>(rows, row_group_);
    int rounds = 1;
    for (uint64_t mixed = kRowBlock; mixed < rows; mixed *= kRowBlock) ++rounds;
    return std::max(rounds, kLeastRowRounds);
  }
  [[nodiscard]] int channel_rounds() const override { return kChannelRounds; }
  /// A section of a group leaves as one piece, instead of a cache line for every row.
  [[nodiscard]] contract::PanelLayout wire_panels() const override { return {.width = 16, .rows = kRowBlock}; }
  [[nodiscard]] bool mixes_rows() const override { return true; }
  [[nodiscard]] double decoy_energy() const override { return decoys_; }
  [[nodiscard]] bool protects() const override { return true; }
  [[nodiscard]] std::string_view leak() const override {
    return "Norms and all singular values of every operand, or of each group of its rows, and the rank of each.";
  }
  [[nodiscard]] double key_bits(int64_t size, int rounds) const override {
    const int64_t group = row_group_ > 0 ? std::min<int64_t>(size, row_group_) : std::max<int64_t>(size, 1);
    const double within_groups = static_cast<double>(size) / static_cast<double>(group) * permutation_bits(group);
    return permutation_bits(size) + (rounds - 1) * within_groups + rounds * static_cast<double>(size);
  }
  [[nodiscard]] std::vector<std::string_view> settings() const override {
    return {"row-rounds", "row-group", "decoys"};
  }
  [[nodiscard]] double seconds_per_element(const BlindingRates& rates, uint64_t rows) const override {
    return rates.rotate_seconds + (row_rounds(rows) - 1) * rates.row_round_seconds;
  }

 private:
  /// Fills `key`, whose size and groups are set, with rounds.
  static Key draw(Csprng& random, Key key, int rounds, uint32_t block) {
    for (int i = 0; i < rounds; ++i) {
      KeyRound round{.source = i == 0 ? random.permutation(key.size) : permutation_within_groups(random, key),
                     .scale = std::vector<float>(key.size),
                     .block = block};
      uint32_t bits = 0;
      for (uint32_t j = 0; j < key.size; ++j) {
        if (j % 32 == 0) bits = random.next_u32();
        round.scale[j] = (bits >> (j % 32) & 1U) != 0 ? 1.0F : -1.0F;
      }
      key.rounds.push_back(std::move(round));
    }
    return key;
  }

  int row_rounds_;
  uint32_t row_group_;
  double decoys_;
};

}  // namespace

std::unique_ptr<const Protection> make_rotated(const BlindingOptions& options) {
  return std::make_unique<Rotated>(options);
}

}  // namespace tempo::obfuscation
