#include "seal/secret_stream.h"

#include <fmt/format.h>

#include <cassert>

#include "seal/key_file.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

const unsigned char* in(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* out_of(std::span<std::byte> bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

void initialise_libsodium() {
  if (sodium_init() < 0) throw RunError("seal: libsodium could not be initialised");
}

}  // namespace

SecretStream::SecretStream(const SecretKey& key, std::span<std::byte, kStreamHeaderBytes> header) {
  initialise_libsodium();
  if (crypto_secretstream_xchacha20poly1305_init_push(&state_, out_of(header), key.data()) != 0)
    throw RunError("seal: libsodium could not start a stream");
}

SecretStream::SecretStream(const SecretKey& key, std::span<const std::byte, kStreamHeaderBytes> header) {
  initialise_libsodium();
  if (crypto_secretstream_xchacha20poly1305_init_pull(&state_, in(header), key.data()) != 0)
    throw RunError("seal: libsodium could not open a stream");
}

void SecretStream::push(std::span<const std::byte> plain, std::span<const std::byte> additional, uint8_t tag,
                        std::span<std::byte> out) {
  assert(out.size() == plain.size() + kTagBytes);
  if (crypto_secretstream_xchacha20poly1305_push(&state_, out_of(out), nullptr, in(plain), plain.size(), in(additional),
                                                 additional.size(), tag) != 0)
    throw RunError("seal: libsodium could not encrypt a chunk");
}

std::optional<uint8_t> SecretStream::pull(std::span<const std::byte> sealed, std::span<const std::byte> additional,
                                          std::span<std::byte> plain) {
  assert(sealed.size() == plain.size() + kTagBytes);
  unsigned char tag = 0;
  if (crypto_secretstream_xchacha20poly1305_pull(&state_, out_of(plain), nullptr, &tag, in(sealed), sealed.size(),
                                                 in(additional), additional.size()) != 0)
    return std::nullopt;
  return tag;
}

std::array<std::byte, kKeyIdBytes> key_id_bytes(const SecretKey& key) {
  std::array<std::byte, kKeyIdBytes> bytes{};
  const std::string hex = key_id(key);
  sodium_hex2bin(out_of(bytes), bytes.size(), hex.data(), hex.size(), nullptr, nullptr, nullptr);
  return bytes;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string hex(2 * bytes.size() + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), in(bytes), bytes.size());
  hex.pop_back();
  return hex;
}

void check_key_id(std::span<const std::byte> found, const SecretKey& given, const std::string& source) {
  const std::string id = to_hex(found), given_id = key_id(given);
  if (id != given_id)
    throw InputError(fmt::format("{}: sealed under key {}, the key given is {}", source, id, given_id));
}

}  // namespace tempo::seal
