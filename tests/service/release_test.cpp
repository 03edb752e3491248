// The key's way to the service: opens with the one key and on the one transcript, or not at all.
#include "service/release.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::service {
namespace release_test {

using ::testing::HasSubstr;
using testing::message_of;

class ReleaseBox : public ::testing::Test {
 protected:
  ReleaseBox() {
    release.job = random_job_id();
    release.data_key = SecretKey::random();
    release.counter = 7;
    release.is_first = true;
    release.config = "model = 'lenet'\n";
    transcript.fill(std::byte{3});
  }
  [[nodiscard]] attest::Bytes sealed() const { return seal_release(release, key.public_key(), transcript); }

  const ReleaseKey key;
  Release release;
  attest::Digest32 transcript{};
};

TEST_F(ReleaseBox, ABoxOpensWithTheServicesKeyAndItsTranscript) {
  const Release opened = open_release(sealed(), key, transcript);
  EXPECT_EQ(opened.job, release.job);
  EXPECT_TRUE(opened.data_key.equals(release.data_key));
  EXPECT_EQ(opened.counter, 7U);
  EXPECT_TRUE(opened.is_first);
  EXPECT_EQ(opened.config, release.config);
}

TEST_F(ReleaseBox, AnotherServiceCannotOpenABox) {
  const ReleaseKey other;
  EXPECT_THAT(message_of<InputError>([&] { open_release(sealed(), other, transcript); }),
              HasSubstr("not sealed to this service's key"));
}

TEST_F(ReleaseBox, ABoxMadeForAnotherConnectionIsRefused) {
  attest::Digest32 other = transcript;
  other[31] ^= std::byte{1};
  EXPECT_THAT(message_of<InputError>([&] { open_release(sealed(), key, other); }),
              HasSubstr("made for another attestation"));
}

TEST_F(ReleaseBox, EveryAlteredOrMissingByteIsRefused) {
  const attest::Bytes good = sealed();
  for (size_t i = 0; i < good.size(); ++i) {
    attest::Bytes bad = good;
    bad[i] ^= std::byte{0x40};
    EXPECT_THROW(open_release(bad, key, transcript), InputError) << "byte " << i;
  }
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_THROW(open_release(std::span(good).first(size), key, transcript), InputError) << "size " << size;
}

TEST_F(ReleaseBox, LongerAndInconsistentPlainFormsAreRefused) {
  const SecretBytes plain = encode_release(release, transcript);
  EXPECT_EQ(parse_release(plain.bytes(), transcript).config, release.config);
  attest::Bytes longer(plain.bytes().begin(), plain.bytes().end());
  longer.push_back(std::byte{0});
  EXPECT_THROW(parse_release(longer, transcript), InputError);
  release.is_first = false;  // a configuration where none belongs
  EXPECT_THROW(parse_release(encode_release(release, transcript).bytes(), transcript), InputError);
}

TEST_F(ReleaseBox, TheTranscriptCoversEveryPart) {
  const attest::Bytes nonce(32), evidence(10), release_key(32);
  ChannelBinding binding;
  binding.service_spki = attest::Bytes(91);
  const auto hash = [&](attest::ByteView n, const ChannelBinding& b, attest::ByteView r, const attest::Digest32& c,
                        attest::ByteView e) {
    return hash_of({.nonce = n, .binding = b, .release_key = r, .config_hash = c, .evidence = e});
  };
  const attest::Digest32 none{}, one = {std::byte{1}};
  const attest::Bytes other32(32, std::byte{1}), other10(10, std::byte{1});
  const auto base = hash(nonce, binding, release_key, none, evidence);
  ChannelBinding exporter = binding, spki = binding, client = binding;
  exporter.exporter[0] = std::byte{1};
  spki.service_spki[0] = std::byte{1};
  client.client[0] = std::byte{1};
  for (const auto& changed :
       {hash(other32, binding, release_key, none, evidence), hash(nonce, exporter, release_key, none, evidence),
        hash(nonce, spki, release_key, none, evidence), hash(nonce, client, release_key, none, evidence),
        hash(nonce, binding, other32, none, evidence), hash(nonce, binding, release_key, one, evidence),
        hash(nonce, binding, release_key, none, other10)})
    EXPECT_NE(changed, base);
}

}  // namespace release_test
}  // namespace tempo::service
