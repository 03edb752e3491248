#include "base/csprng.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>
#include <numeric>
#include <string>

#include "tempo/error.h"

namespace tempo {
namespace {

struct KdfDeleter {
  void operator()(EVP_KDF* kdf) const noexcept { EVP_KDF_free(kdf); }
  void operator()(EVP_KDF_CTX* ctx) const noexcept { EVP_KDF_CTX_free(ctx); }
};
using UniqueKdf = std::unique_ptr<EVP_KDF, KdfDeleter>;
using UniqueKdfContext = std::unique_ptr<EVP_KDF_CTX, KdfDeleter>;

void append_u64(std::string& out, uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(value >> shift));
}

// A type tag and a length before every part: no two different paths have the same encoding.
void append_part(std::string& out, const KeyPathPart& part) {
  if (const auto* text = std::get_if<std::string_view>(&part)) {
    out.push_back('s');
    append_u64(out, text->size());
    out.append(*text);
  } else {
    out.push_back('n');
    append_u64(out, std::get<uint64_t>(part));
  }
}

}  // namespace

SecretKey derive_key(const SecretKey& parent, std::string_view label, std::initializer_list<KeyPathPart> path) {
  std::string info = "tempo/v1";
  append_part(info, label);
  for (const auto& part : path) append_part(info, part);

  static const UniqueKdf kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  const UniqueKdfContext ctx(kdf ? EVP_KDF_CTX_new(kdf.get()) : nullptr);
  if (!ctx) throw RunError("csprng: OpenSSL offers no HKDF");
  char digest[] = "SHA256";
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<unsigned char*>(parent.data()),
                                        SecretKey::kBytes),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
      OSSL_PARAM_construct_end(),
  };
  SecretKey out;
  if (EVP_KDF_derive(ctx.get(), reinterpret_cast<unsigned char*>(out.writable().data()), SecretKey::kBytes, params) <=
      0)
    throw RunError("csprng: key derivation failed in OpenSSL");
  return out;
}

SecretKey key_from_seed_insecure(uint64_t seed) {
  SecretKey root;
  std::memcpy(root.writable().data(), &seed, sizeof seed);
  return derive_key(root, "seed", {seed});
}

void Csprng::refill() {
  static const std::array<unsigned char, kBufferBytes> kZeros{};
  static const std::array<unsigned char, crypto_stream_chacha20_NONCEBYTES> kNonce{};
  crypto_stream_chacha20_xor_ic(buffer_.data(), kZeros.data(), kBufferBytes, kNonce.data(), block_, key_.data());
  block_ += kBufferBytes / 64;
  used_ = 0;
}

void Csprng::fill(std::span<std::byte> out) {
  while (!out.empty()) {
    if (used_ == kBufferBytes) refill();
    const size_t count = std::min(out.size(), kBufferBytes - used_);
    std::memcpy(out.data(), buffer_.data() + used_, count);
    used_ += count;
    out = out.subspan(count);
  }
}

uint32_t Csprng::next_u32() {
  if (used_ + sizeof(uint32_t) > kBufferBytes) refill();
  uint32_t value = 0;
  std::memcpy(&value, buffer_.data() + used_, sizeof value);
  used_ += sizeof value;
  return value;
}

uint64_t Csprng::next_u64() {
  const uint64_t high = next_u32();
  return (high << 32) | next_u32();
}

uint32_t Csprng::below(uint32_t bound) {
  uint64_t product = uint64_t{next_u32()} * bound;
  if (static_cast<uint32_t>(product) < bound) {
    const uint32_t threshold = (0U - bound) % bound;
    while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next_u32()} * bound;
  }
  return static_cast<uint32_t>(product >> 32);
}

double Csprng::uniform() { return static_cast<double>(next_u64() >> 11) * 0x1.0p-53; }

double Csprng::normal() {
  if (has_spare_normal_) {
    has_spare_normal_ = false;
    return spare_normal_;
  }
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  const double angle = 2.0 * std::numbers::pi * uniform();
  spare_normal_ = radius * std::sin(angle);
  has_spare_normal_ = true;
  return radius * std::cos(angle);
}

std::vector<uint32_t> Csprng::permutation(uint32_t size) {
  std::vector<uint32_t> order(size);
  std::iota(order.begin(), order.end(), 0U);
  for (uint32_t i = size; i > 1; --i) std::swap(order[i - 1], order[below(i)]);
  return order;
}

}  // namespace tempo
