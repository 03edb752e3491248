#include "service/release.h"

#include <algorithm>

#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::service {
namespace {

constexpr std::string_view kMagic = "TEMPOREL";
constexpr uint32_t kReleaseVersion = 1;
constexpr size_t kFixedBytes = 8 + 4 + 32 + 16 + 32 + 8 + 1 + 16 + 4;

using attest::Bytes;
using attest::bytes_of;
using attest::ByteView;
using attest::raw;

unsigned char* as_sodium_out(std::span<std::byte> bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

void require_sodium() {
  if (sodium_init() < 0) throw RunError("service: libsodium could not be initialised");
}

/// Fills memory that does not grow: nothing of it is left behind elsewhere.
class Filler {
 public:
  explicit Filler(std::span<std::byte> out) : out_(out) {}
  void bytes(ByteView bytes) {
    std::copy(bytes.begin(), bytes.end(), out_.begin());
    out_ = out_.subspan(bytes.size());
  }
  template <typename Integer>
  void number(Integer value) {
    for (size_t i = 0; i < sizeof value; ++i) out_[i] = static_cast<std::byte>(value >> (8 * i));
    out_ = out_.subspan(sizeof value);
  }

 private:
  std::span<std::byte> out_;
};

template <size_t kBytes>
std::array<std::byte, kBytes> take(ByteReader& reader) {
  std::array<std::byte, kBytes> out{};
  const ByteView bytes = reader.bytes(kBytes);
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

}  // namespace

ReleaseKey::ReleaseKey() {
  require_sodium();
  if (crypto_box_keypair(as_sodium_out(public_), as_sodium_out(secret_.writable())) != 0)
    throw RunError("service: libsodium could not make a key pair");
}

attest::Digest32 hash_of(const Transcript& transcript) {
  Bytes all;
  const auto add = [&](ByteView part) {
    append_u64(all, part.size());
    all.insert(all.end(), part.begin(), part.end());
  };
  add(bytes_of("tempo/v1/service-transcript"));
  add(transcript.nonce);
  add(transcript.binding.service_spki);
  add(transcript.binding.exporter);
  add(transcript.binding.client);
  add(transcript.release_key);
  add(transcript.config_hash);
  add(transcript.evidence);
  return sha256(all);
}

SecretBytes encode_release(const Release& release, const attest::Digest32& transcript) {
  if (release.config.size() > kMaxJobConfigBytes) throw InputError("job: its configuration is too long");
  SecretBytes plain(kFixedBytes + release.config.size());
  Filler out(plain.writable());
  out.bytes(bytes_of(kMagic));
  out.number(kReleaseVersion);
  out.bytes(transcript);
  out.bytes(release.job);
  out.bytes(release.data_key.bytes());
  out.number(release.counter);
  out.number(static_cast<uint8_t>(release.is_first ? 1 : 0));
  out.bytes(release.archive_id);
  out.number(static_cast<uint32_t>(release.config.size()));
  out.bytes(bytes_of(release.config));
  return plain;
}

Release parse_release(ByteView plain, const attest::Digest32& transcript) {
  ByteReader reader(plain, "release of keys");
  if (reader.text(kMagic.size()) != kMagic || reader.u32() != kReleaseVersion)
    throw InputError("release of keys: not one of version 1");
  if (take<32>(reader) != transcript)
    throw InputError("release of keys: made for another attestation, expected one for this connection's last");
  Release release;
  release.job = take<16>(reader);
  const ByteView key = reader.bytes(SecretKey::kBytes);
  std::copy(key.begin(), key.end(), release.data_key.writable().begin());
  release.counter = reader.u64();
  const uint8_t first = reader.u8();
  release.archive_id = take<16>(reader);
  const uint32_t length = reader.u32();
  if (first > 1 || length > kMaxJobConfigBytes || length != reader.left() || (first == 0 && length != 0))
    throw InputError("release of keys: its configuration is not where it should be");
  release.is_first = first == 1;
  release.config = reader.text(length);
  return release;
}

Bytes seal_release(const Release& release, const ReleasePublicKey& key, const attest::Digest32& transcript) {
  require_sodium();
  const SecretBytes plain = encode_release(release, transcript);
  Bytes sealed(plain.size() + crypto_box_SEALBYTES);
  if (crypto_box_seal(as_sodium_out(sealed), raw(plain.bytes()), plain.size(), raw(key)) != 0)
    throw RunError("service: libsodium could not seal the keys");
  return sealed;
}

Release open_release(ByteView sealed, const ReleaseKey& key, const attest::Digest32& transcript) {
  if (sealed.size() < crypto_box_SEALBYTES + kFixedBytes || sealed.size() > kMaxReleaseBytes)
    throw InputError("release of keys: of a size that none has");
  SecretBytes plain(sealed.size() - crypto_box_SEALBYTES);
  if (crypto_box_seal_open(as_sodium_out(plain.writable()), raw(sealed), sealed.size(), raw(key.public_key()),
                           key.secret_key().data()) != 0)
    throw InputError("release of keys: not sealed to this service's key, or altered");
  return parse_release(plain.bytes(), transcript);
}

}  // namespace tempo::service
