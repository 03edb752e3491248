/// The third message of the handshake: the data set's key, for the attested service alone. Layout: docs/service.md.
#pragma once

#include <sodium.h>

#include <array>
#include <cstdint>
#include <string>

#include "attest/types.h"
#include "base/secret.h"
#include "service/job_id.h"
#include "service/tls_channel.h"

namespace tempo::service {

constexpr size_t kNonceBytes = 32;
constexpr size_t kMaxJobConfigBytes = 64 << 10;
constexpr size_t kMaxServiceConfigBytes = 16 << 10;
/// The limit of a sealed release.
constexpr size_t kMaxReleaseBytes = kMaxJobConfigBytes + 1024;

using ReleasePublicKey = std::array<std::byte, crypto_box_PUBLICKEYBYTES>;
using ArchiveId = std::array<std::byte, 16>;

/// An X25519 pair that exists in memory alone, for as long as the service runs.
class ReleaseKey {
 public:
  /// @throws RunError if libsodium fails.
  ReleaseKey();
  [[nodiscard]] const ReleasePublicKey& public_key() const { return public_; }
  [[nodiscard]] const SecretKey& secret_key() const { return secret_; }

 private:
  ReleasePublicKey public_{};
  SecretKey secret_;
};

/// Everything that both ends must agree on before a key moves.
struct Transcript {
  attest::ByteView nonce;
  const ChannelBinding& binding;
  attest::ByteView release_key;
  attest::Digest32 config_hash;
  attest::ByteView evidence;  ///< as it travelled
};
attest::Digest32 hash_of(const Transcript& transcript);

/// What a client hands over. The first release of a job says what it is to do; later ones, after a restart of the
/// service, repeat nothing but the key.
struct Release {
  JobId job{};
  SecretKey data_key;
  uint64_t counter = 0;  ///< of the newest state of the job that the client has heard of
  bool is_first = false;
  std::string config;      ///< TOML; empty unless first
  ArchiveId archive_id{};  ///< zero: generated images
};

/// A libsodium sealed box: only the holder of the key can open it. The transcript is inside, so it opens nowhere else.
attest::Bytes seal_release(const Release& release, const ReleasePublicKey& key, const attest::Digest32& transcript);
/// @throws InputError if it is not for this key, not of this transcript, or malformed.
Release open_release(attest::ByteView sealed, const ReleaseKey& key, const attest::Digest32& transcript);

/// The plain form, for the parser's tests. @throws InputError
Release parse_release(attest::ByteView plain, const attest::Digest32& transcript);
SecretBytes encode_release(const Release& release, const attest::Digest32& transcript);

}  // namespace tempo::service
