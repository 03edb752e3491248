#include "obfuscation/key_ring.h"

namespace tempo::obfuscation {

namespace {

SecretKey seed_of(const SecretKey& master, std::string_view label, const KeyPath& path, KeyRole role) {
  return derive_key(master, label,
                    {path.layer, static_cast<uint64_t>(path.pass.period), path.pass.number, path.pass.batch, path.call,
                     path.item, path.purpose, static_cast<uint64_t>(role)});
}

}  // namespace

Key KeyRing::derive(const KeyPath& path, KeyRole role, uint32_t size) const {
  Csprng random(seed_of(master_, "operand-key", path, role));
  return role == KeyRole::kLeft ? protection_->row_key(random, size) : protection_->channel_key(random, size);
}

SecretKey KeyRing::derive_noise_seed(const KeyPath& path, KeyRole role) const {
  return seed_of(master_, "decoys", path, role);
}

}  // namespace tempo::obfuscation
