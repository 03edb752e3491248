#include "obfuscation/key_ring.h"

namespace tempo::obfuscation {

Key KeyRing::derive(const KeyPath& path, KeyRole role, uint32_t size) const {
  const SecretKey seed = derive_key(master_, "operand-key",
                                    {path.layer, static_cast<uint64_t>(path.pass.period), path.pass.number,
                                     path.pass.batch, path.call, path.item, path.purpose, static_cast<uint64_t>(role)});
  Csprng random(seed);
  return role == KeyRole::kLeft ? scheme_->row_key(random, size) : scheme_->channel_key(random, size);
}

}  // namespace tempo::obfuscation
