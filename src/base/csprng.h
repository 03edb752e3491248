/// The one source of randomness: ChaCha20 keystreams from derived keys. Everything random in Tempo (keys, initial
/// weights, shuffling, augmentation) comes from here, so that a secret or a seed determines it completely.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "base/secret.h"

namespace tempo {

/// Derives a sub-key: HKDF-Expand (RFC 5869, SHA-256) over `parent`, with `label` and `path` length-prefixed as info.
/// Different labels or paths give independent keys. @throws RunError if OpenSSL fails.
using KeyPathPart = std::variant<std::string_view, uint64_t>;
SecretKey derive_key(const SecretKey& parent, std::string_view label, std::initializer_list<KeyPathPart> path = {});

/// A key that stands for a user's reproducible `--seed`. Not secret: whoever knows the seed knows all that follows.
SecretKey key_from_seed_insecure(uint64_t seed);

/// A deterministic random stream: the ChaCha20 keystream of a key that is used for nothing else. Not thread-safe.
class Csprng {
 public:
  explicit Csprng(const SecretKey& key) : key_(key.duplicate()) {}
  ~Csprng() { sodium_memzero(buffer_.data(), buffer_.size()); }
  Csprng(const Csprng&) = delete;
  Csprng& operator=(const Csprng&) = delete;

  void fill(std::span<std::byte> out);
  uint32_t next_u32();
  uint64_t next_u64();
  /// Uniform in [0, bound), without modulo bias (Lemire, 2019). `bound` >= 1.
  uint32_t below(uint32_t bound);
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Standard normal (Box-Muller).
  double normal();
  bool coin() { return (next_u32() & 1U) != 0; }
  /// A uniformly random permutation of 0..size-1 (Fisher-Yates).
  std::vector<uint32_t> permutation(uint32_t size);

 private:
  void refill();

  static constexpr size_t kBufferBytes = 4096;
  SecretKey key_;
  std::array<unsigned char, kBufferBytes> buffer_{};
  size_t used_ = kBufferBytes;
  uint64_t block_ = 0;  // ChaCha20 block counter of the next refill, 64 bytes each
  double spare_normal_ = 0;
  bool has_spare_normal_ = false;
};

}  // namespace tempo
