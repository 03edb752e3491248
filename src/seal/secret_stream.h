/// libsodium's secretstream (XChaCha20-Poly1305), the one authenticated cipher of sealed files and archives.
#pragma once

#include <sodium.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/secret.h"

namespace tempo::seal {

/// Stands before a stream's first message; holds its random nonce.
inline constexpr size_t kStreamHeaderBytes = crypto_secretstream_xchacha20poly1305_HEADERBYTES;
/// By which a sealed message is longer than the plain one.
inline constexpr size_t kTagBytes = crypto_secretstream_xchacha20poly1305_ABYTES;
inline constexpr uint8_t kMessageTag = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE;
inline constexpr uint8_t kFinalTag = crypto_secretstream_xchacha20poly1305_TAG_FINAL;

/// The state of one stream, either way. Holds a key; wiped. Not thread-safe.
class SecretStream {
 public:
  /// Begins a stream to seal; its header goes to `header`. @throws RunError if libsodium fails.
  SecretStream(const SecretKey& key, std::span<std::byte, kStreamHeaderBytes> header);
  /// Begins a stream to open.
  SecretStream(const SecretKey& key, std::span<const std::byte, kStreamHeaderBytes> header);
  SecretStream(const SecretStream&) = delete;
  SecretStream& operator=(const SecretStream&) = delete;
  ~SecretStream() { sodium_memzero(&state_, sizeof state_); }

  /// Seals one message. @param additional is authenticated with it. @param out kTagBytes longer than `plain`.
  void push(std::span<const std::byte> plain, std::span<const std::byte> additional, uint8_t tag,
            std::span<std::byte> out);
  /// Opens one message. @param plain kTagBytes shorter than `sealed`; nothing is written unless all of it is authentic.
  /// @returns its tag, or nothing if it is not authentic here.
  std::optional<uint8_t> pull(std::span<const std::byte> sealed, std::span<const std::byte> additional,
                              std::span<std::byte> plain);

 private:
  crypto_secretstream_xchacha20poly1305_state state_{};
};

/// The first bytes of a key's id as they stand in headers: what `key_id` shows as 16 hex digits.
inline constexpr size_t kKeyIdBytes = 8;
std::array<std::byte, kKeyIdBytes> key_id_bytes(const SecretKey& key);
std::string to_hex(std::span<const std::byte> bytes);

/// @throws InputError if a header names another key than the one given, naming both.
void check_key_id(std::span<const std::byte> found, const SecretKey& given, const std::string& source);

}  // namespace tempo::seal
