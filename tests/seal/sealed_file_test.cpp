#include "seal/sealed_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "base/csprng.h"
#include "base/file.h"
#include "seal/key_file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace sealed_file_test {

using ::tempo::testing::message_of;
using ::tempo::testing::TempFolder;
using ::tempo::testing::to_bytes;
using ::tempo::testing::write_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Bytes = std::vector<std::byte>;

constexpr size_t kLimit = 1 << 20;
constexpr std::string_view kKind = "checkpoint";
constexpr size_t kHeaderBytes = 8 + 4 + 4 + 8 + 4 + kKind.size() + 24;
constexpr size_t kSealedChunkBytes = 4 + kChunkBytes + 17;

Bytes random_bytes(size_t count, uint64_t seed) {
  Bytes bytes(count);
  Csprng(key_from_seed_insecure(seed)).fill(bytes);
  return bytes;
}

class SealedFile : public ::testing::Test {
 protected:
  void seal(const Bytes& plain, std::string_view kind = kKind) const {
    SealedWriter writer(path_, key_, kind);
    writer.write(plain);
    writer.commit();
  }
  Bytes sealed(const Bytes& plain) const {
    seal(plain);
    return read_file(path_, 2 * kLimit);
  }
  Bytes open() const { return unseal_file(path_, key_, kKind, kLimit); }
  /// The message with which these bytes are refused, without the path in front.
  std::string refusal(const Bytes& bytes) const {
    write_bytes(path_, bytes);
    const std::string message = message_of<InputError>([&] { open(); });
    const std::string prefix = path_.string() + ": ";
    EXPECT_TRUE(message.starts_with(prefix)) << message;
    return message.substr(std::min(prefix.size(), message.size()));
  }

  const TempFolder folder_;
  const std::filesystem::path path_ = folder_ / "a.sealed";
  const SecretKey key_ = key_from_seed_insecure(1);
};

TEST_F(SealedFile, EverySizeRoundTrips) {
  for (const size_t size : {0, 1, 65535, 65536, 65537, 131072, 200000}) {
    SCOPED_TRACE(size);
    const Bytes plain = random_bytes(size, size);
    const Bytes file = sealed(plain);
    const size_t chunks = std::max<size_t>(1, (size + kChunkBytes - 1) / kChunkBytes);
    EXPECT_EQ(file.size(), kHeaderBytes + size + chunks * 21);
    EXPECT_EQ(open(), plain);
  }
}

TEST_F(SealedFile, TheContentDoesNotDependOnTheSizesOfWrites) {
  const Bytes plain = random_bytes(200000, 3);
  SealedWriter writer(path_, key_, kKind);
  size_t done = 0;
  for (size_t piece = 1; done < plain.size(); piece = piece * 3 + 1) {
    const size_t count = std::min(piece, plain.size() - done);
    writer.write(std::span(plain).subspan(done, count));
    writer.write({});
    done += count;
  }
  writer.commit();
  EXPECT_EQ(open(), plain);
}

TEST_F(SealedFile, AFileRevealsNoPlaintextAndNeverRepeats) {
  const Bytes plain = to_bytes(std::string(100, 'A'));
  const Bytes first = sealed(plain);
  const Bytes second = sealed(plain);
  EXPECT_EQ(std::search(first.begin(), first.end(), plain.begin(), plain.begin() + 8), first.end());
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + kHeaderBytes - 24, second.begin()));
  EXPECT_FALSE(std::equal(first.begin() + kHeaderBytes, first.end(), second.begin() + kHeaderBytes));
}

TEST_F(SealedFile, EveryAlteredByteIsRefused) {
  const Bytes good = sealed(random_bytes(50, 4));
  for (size_t i = 0; i < good.size(); ++i) {
    SCOPED_TRACE(fmt::format("byte {}", i));
    for (const uint8_t bit : {0x01, 0x80}) {
      Bytes bad = good;
      bad[i] ^= std::byte{bit};
      EXPECT_FALSE(refusal(bad).empty());
    }
  }
}

TEST_F(SealedFile, HeaderChecksEachHaveTheirMessage) {
  const Bytes good = sealed(random_bytes(50, 5));
  const auto altered = [&](size_t offset, uint8_t value) {
    Bytes bad = good;
    bad[offset] = std::byte{value};
    return refusal(bad);
  };
  EXPECT_EQ(altered(0, 'X'), "not a sealed file; expected it to begin with TEMPOSEA");
  EXPECT_EQ(refusal({}), "not a sealed file; expected it to begin with TEMPOSEA");
  EXPECT_EQ(altered(8, 2), "sealed file of version 2, expected 1");
  EXPECT_EQ(altered(12, 1), "sealed in chunks of 65537 bytes, expected 65536");
  EXPECT_EQ(altered(24, 0), "kind of 0 bytes in the header, expected 1 to 64");
  EXPECT_EQ(altered(27, 0xFF), "kind of 4278190090 bytes in the header, expected 1 to 64");
  EXPECT_EQ(altered(28, '\n'), "sealed as \"\\x0aheckpoint\", expected \"checkpoint\"");
  EXPECT_THAT(altered(16, 0), HasSubstr("sealed under key 00"));
  EXPECT_EQ(altered(kHeaderBytes - 1, static_cast<uint8_t>(good[kHeaderBytes - 1]) ^ 1U),
            "chunk 1 was altered: it does not authenticate");
}

TEST_F(SealedFile, AnotherKindIsRefused) {
  seal(random_bytes(10, 6), "dataset");
  EXPECT_EQ(message_of<InputError>([&] { open(); }),
            path_.string() + ": sealed as \"dataset\", expected \"checkpoint\"");
  for (const std::string& kind : {std::string(), std::string(65, 'k')})
    EXPECT_THAT(message_of<InputError>([&] { SealedWriter(path_, key_, kind); }), HasSubstr("expected 1 to 64"));
}

TEST_F(SealedFile, AnotherKeyIsRefusedAndNamed) {
  const SecretKey other = key_from_seed_insecure(2);
  Bytes bytes = sealed(random_bytes(10, 7));
  EXPECT_EQ(message_of<InputError>([&] { unseal_file(path_, other, kKind, kLimit); }),
            fmt::format("{}: sealed under key {}, the key given is {}", path_.string(), key_id(key_), key_id(other)));
  // Even when the file claims to be of the other key.
  const std::string id = key_id(other);
  sodium_hex2bin(reinterpret_cast<unsigned char*>(bytes.data()) + 16, 8, id.data(), id.size(), nullptr, nullptr,
                 nullptr);
  EXPECT_THAT(message_of<InputError>([&] { unseal(bytes, "forged", other, kKind, kLimit); }),
              "forged: chunk 1 was altered: it does not authenticate");
}

TEST_F(SealedFile, AlteredChunksAreRefusedAndNamed) {
  const Bytes good = sealed(random_bytes(200000, 8));
  for (const size_t chunk : {0, 1, 2, 3}) {
    Bytes bad = good;
    bad[kHeaderBytes + chunk * kSealedChunkBytes + 4 + 100] ^= std::byte{1};
    EXPECT_EQ(refusal(bad), fmt::format("chunk {} was altered: it does not authenticate", chunk + 1));
  }
  Bytes bad = good;
  bad[kHeaderBytes + kSealedChunkBytes + 2] = std::byte{2};
  EXPECT_EQ(refusal(bad), "chunk 2 was altered: its length is 131089, expected 17 to 65553");
  bad[kHeaderBytes + kSealedChunkBytes + 0] = std::byte{16};
  bad[kHeaderBytes + kSealedChunkBytes + 2] = std::byte{0};
  EXPECT_EQ(refusal(bad), "chunk 2 was altered: its length is 16, expected 17 to 65553");
}

TEST_F(SealedFile, TruncationAnywhereIsRefused) {
  const Bytes good = sealed(random_bytes(200000, 9));
  const auto cut_at = [&](size_t size) { return refusal(Bytes(good.begin(), good.begin() + static_cast<long>(size))); };
  for (const size_t chunks : {0, 1, 2, 3}) {
    const size_t boundary = kHeaderBytes + chunks * kSealedChunkBytes;
    EXPECT_EQ(cut_at(boundary), fmt::format("cut short: it ends after chunk {}, no final chunk was found", chunks));
    EXPECT_EQ(cut_at(boundary + 3),
              fmt::format("cut short: 3 bytes left of the length of chunk {}, no final chunk was found", chunks + 1));
    EXPECT_THAT(cut_at(boundary + 4), HasSubstr(fmt::format("cut short: chunk {} has ", chunks + 1)));
    EXPECT_THAT(cut_at(boundary + 1000), HasSubstr("996 left, no final chunk was found"));
  }
  EXPECT_THAT(cut_at(good.size() - 1), HasSubstr("cut short: chunk 4 has 3409 bytes, 3408 left"));
  for (size_t size = 8; size < kHeaderBytes; ++size)
    EXPECT_THAT(cut_at(size), HasSubstr("cut short: ")) << "at header byte " << size;
  for (size_t size = 0; size < 8; ++size) EXPECT_THAT(cut_at(size), HasSubstr("not a sealed file"));
}

TEST_F(SealedFile, ChunksCannotBeSwappedDroppedOrRepeated) {
  const Bytes good = sealed(random_bytes(200000, 10));
  const auto chunk = [&](long i) { return good.begin() + static_cast<long>(kHeaderBytes + i * kSealedChunkBytes); };
  Bytes swapped = good;
  std::swap_ranges(swapped.begin() + kHeaderBytes, swapped.begin() + kHeaderBytes + kSealedChunkBytes,
                   swapped.begin() + kHeaderBytes + kSealedChunkBytes);
  EXPECT_EQ(refusal(swapped), "chunk 1 was altered: it does not authenticate");

  Bytes dropped(good.begin(), chunk(1));
  dropped.insert(dropped.end(), chunk(2), good.end());
  EXPECT_EQ(refusal(dropped), "chunk 2 was altered: it does not authenticate");

  Bytes repeated(good.begin(), chunk(2));
  repeated.insert(repeated.end(), chunk(1), good.end());
  EXPECT_EQ(refusal(repeated), "chunk 3 was altered: it does not authenticate");

  Bytes moved_end(good.begin(), chunk(2));
  moved_end.insert(moved_end.end(), chunk(3), good.end());
  EXPECT_EQ(refusal(moved_end), "chunk 3 was altered: it does not authenticate");
}

TEST_F(SealedFile, ChunksOfAnotherFileAreRefused) {
  const Bytes one = sealed(random_bytes(200000, 11));
  const Bytes other = sealed(random_bytes(200000, 11));  // same key, same kind, same plaintext
  for (const size_t number : {0, 1, 3}) {
    const size_t begin = kHeaderBytes + number * kSealedChunkBytes;
    const size_t end = std::min(begin + kSealedChunkBytes, one.size());
    Bytes mixed = one;
    std::copy(other.begin() + static_cast<long>(begin), other.begin() + static_cast<long>(end),
              mixed.begin() + static_cast<long>(begin));
    EXPECT_EQ(refusal(mixed), fmt::format("chunk {} was altered: it does not authenticate", number + 1));
  }
}

TEST_F(SealedFile, BytesAfterTheFinalChunkAreRefused) {
  for (const size_t size : {0, 10, 65536}) {
    Bytes longer = sealed(random_bytes(size, 12));
    longer.push_back(std::byte{0});
    EXPECT_EQ(refusal(longer), "1 bytes after the final chunk, expected none");
  }
}

TEST_F(SealedFile, AFileLargerThanAllowedIsRefused) {
  const Bytes plain = random_bytes(70000, 13);
  const Bytes bytes = sealed(plain);
  EXPECT_EQ(unseal(bytes, "memory", key_, kKind, 70000), plain);
  EXPECT_EQ(message_of<InputError>([&] { unseal(bytes, "memory", key_, kKind, 69999); }),
            "memory: more than 69999 bytes are sealed in it, expected at most that");
  EXPECT_EQ(unseal_file(path_, key_, kKind, 70000), plain);
  EXPECT_THAT(message_of<InputError>([&] { unseal_file(path_, key_, kKind, 100); }), HasSubstr("expected at most"));
  EXPECT_EQ(unseal_file(path_, key_, kKind, SIZE_MAX), plain);
}

TEST_F(SealedFile, InterruptedWriteLeavesTheOldFileAndNothingElse) {
  const Bytes old = random_bytes(1000, 14);
  seal(old);
  {
    SealedWriter writer(path_, key_, kKind);
    writer.write(random_bytes(150000, 15));
    EXPECT_EQ(open(), old);
  }
  EXPECT_EQ(open(), old);
  EXPECT_THAT(folder_.names(), ElementsAre("a.sealed"));
  seal(random_bytes(5, 16));
  EXPECT_THAT(folder_.names(), ElementsAre("a.sealed"));
}

TEST_F(SealedFile, FilesThatCannotBeOpenedAreReported) {
  EXPECT_THAT(message_of<InputError>([&] { open(); }), HasSubstr("cannot be read: No such file"));
  EXPECT_THAT(message_of<InputError>([&] { SealedWriter(folder_ / "no" / "folder", key_, kKind); }),
              HasSubstr("cannot be created"));
}

}  // namespace sealed_file_test
}  // namespace tempo::seal
