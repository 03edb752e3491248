#include "obfuscation/protections/rotated.h"

#include <algorithm>
#include <utility>

namespace tempo::obfuscation {
namespace {

constexpr uint32_t kRowBlock = 256, kChannelBlock = 16;
constexpr int kChannelRounds = 2;
/// After a single round, rows in the smallest blocks of a ragged end would be mixed with few others, and the last with
/// none.
constexpr int kLeastRowRounds = 2;

/// Fills `key`, whose size and groups are set, with rounds.
Key draw(Csprng& random, Key key, int rounds, uint32_t block) {
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

}  // namespace

Key Rotated::row_key(Csprng& random, uint32_t size) const {
  return draw(random, {.size = size, .rounds = {}, .group = size > row_group_ ? row_group_ : 0}, row_rounds(size),
              kRowBlock);
}

Key Rotated::channel_key(Csprng& random, uint32_t size) const {
  return draw(random, {.size = size, .rounds = {}}, kChannelRounds, kChannelBlock);
}

int Rotated::row_rounds(uint64_t rows) const {
  if (row_rounds_ > 0) return row_rounds_;
  if (row_group_ > 0) rows = std::min<uint64_t>(rows, row_group_);
  int rounds = 1;
  for (uint64_t mixed = kRowBlock; mixed < rows; mixed *= kRowBlock) ++rounds;
  return std::max(rounds, kLeastRowRounds);
}

int Rotated::channel_rounds() const { return kChannelRounds; }

contract::PanelLayout Rotated::wire_panels() const { return {.width = 16, .rows = kRowBlock}; }

double Rotated::key_bits(int64_t size, int rounds) const {
  const int64_t group = row_group_ > 0 ? std::min<int64_t>(size, row_group_) : std::max<int64_t>(size, 1);
  const double within_groups = static_cast<double>(size) / static_cast<double>(group) * permutation_bits(group);
  return permutation_bits(size) + (rounds - 1) * within_groups + rounds * static_cast<double>(size);
}

std::unique_ptr<const Protection> make_rotated(const BlindingOptions& options) {
  return std::make_unique<Rotated>(options);
}

}  // namespace tempo::obfuscation
