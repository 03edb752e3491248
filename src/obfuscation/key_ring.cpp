#include "obfuscation/key_ring.h"

#include <fmt/format.h>

#include <algorithm>

#include "tempo/error.h"

namespace tempo::obfuscation {

namespace {

constexpr int64_t kLeastGroup = 1024, kLargestGroup = 65'536;
constexpr int64_t kGroupUnit = 256;  // the largest block of a row key

SecretKey seed_of(const SecretKey& master, std::string_view label, const KeyPath& path, KeyRole role) {
  return derive_key(master, label,
                    {path.layer, static_cast<uint64_t>(path.pass.period), path.pass.number, path.pass.batch, path.call,
                     path.item, path.purpose, static_cast<uint64_t>(role)});
}

}  // namespace

Key KeyRing::derive(const KeyPath& path, KeyRole role, uint32_t size) const {
  const SecretKey seed = seed_of(master_, "operand-key", path, role);
  const int64_t group = protection_->row_group();
  if (role == KeyRole::kLeft && group > 0 && size > group) return derive_groups(seed, size);
  Csprng random(seed.duplicate());
  return role == KeyRole::kLeft ? protection_->row_key(random, size) : protection_->channel_key(random, size);
}

Key KeyRing::derive_groups(const SecretKey& seed, uint32_t size) const {
  const int64_t group = protection_->row_group();
  if (group < kLeastGroup || group > kLargestGroup || group % kGroupUnit != 0)
    throw InputError(fmt::format("protection: groups of {} rows, expected a multiple of {} from {} to {}", group,
                                 kGroupUnit, kLeastGroup, kLargestGroup));
  Key whole{.size = size, .rounds = {}};
  for (uint32_t first = 0; first < size; first += static_cast<uint32_t>(group)) {
    const uint32_t count = std::min(size - first, static_cast<uint32_t>(group));
    Csprng random(derive_key(seed, "row-group", {uint64_t{first}}));
    const Key part = protection_->row_key(random, count);
    if (first == 0) whole.rounds.resize(part.rounds.size());
    whole.orthogonal = whole.orthogonal && part.orthogonal;
    if (part.rounds.size() != whole.rounds.size())
      throw InputError(fmt::format("protection: keys of groups with {} and {} rounds, expected as many",
                                   part.rounds.size(), whole.rounds.size()));
    for (size_t r = 0; r < part.rounds.size(); ++r) {
      KeyRound& round = whole.rounds[r];
      round.block = part.rounds[r].block;  // divides the group, so blocks never reach into the next one
      for (const uint32_t source : part.rounds[r].source) round.source.push_back(first + source);
      round.scale.insert(round.scale.end(), part.rounds[r].scale.begin(), part.rounds[r].scale.end());
    }
  }
  return whole;
}

SecretKey KeyRing::derive_noise_seed(const KeyPath& path, KeyRole role) const {
  return seed_of(master_, "decoys", path, role);
}

}  // namespace tempo::obfuscation
