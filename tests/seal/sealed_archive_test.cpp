#include "seal/sealed_archive.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "base/csprng.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "seal/archive_writer.h"
#include "seal/key_file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace sealed_archive_test {

using ::tempo::testing::message_of;
using ::tempo::testing::TempFolder;
using ::tempo::testing::to_bytes;
using ::tempo::testing::write_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Bytes = std::vector<std::byte>;

constexpr uint64_t kSeed = 1;
constexpr size_t kChunk = kArchiveChunkBytes, kLimit = size_t{1} << 26U;

Bytes random_bytes(size_t count, uint64_t seed) {
  Bytes bytes(count);
  Csprng(key_from_seed_insecure(seed)).fill(bytes);
  return bytes;
}

std::string as_text(const SecretBytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.bytes().data()), bytes.size()};
}

class SealedArchiveTest : public ::testing::Test {
 protected:
  /// An archive of one file, and the bytes of the archive.
  Bytes sealed(const Bytes& plain) const {
    seal_files(path_, key_, {{"data", plain}});
    return read_file(path_, kLimit);
  }
  Bytes read_back() const {
    const SealedArchive archive(path_, key_);
    const SecretBytes bytes = archive.read_all(*archive.find("data"), kLimit);
    return {bytes.bytes().begin(), bytes.bytes().end()};
  }
  /// The message with which these bytes are refused when all of them are read, without the source in front.
  std::string refusal(const Bytes& bytes) const {
    const std::string message = message_of<InputError>([&] {
      const SealedArchive archive(bytes, "x", key_);
      for (const ArchiveEntry& entry : archive.entries())
        if (!entry.is_folder) (void)archive.read_all(entry, kLimit);
    });
    EXPECT_TRUE(message.starts_with("x: ")) << message;
    return message.substr(std::min<size_t>(3, message.size()));
  }
  static std::string refused_chunk(size_t number, size_t of) {
    return fmt::format("chunk {} of {} was altered or belongs elsewhere: it does not authenticate", number, of);
  }
  static ptrdiff_t chunk_at(size_t index) {
    return static_cast<ptrdiff_t>(kArchiveHeaderBytes + index * kSealedChunkBytes);
  }

  const TempFolder folder_;
  const std::filesystem::path path_ = folder_ / "a.sealed";
  const SecretKey key_ = key_from_seed_insecure(kSeed);
  /// What the table of one file named "data" takes of the first chunk.
  const size_t table_ = make_table({{.path = "data"}}).table_bytes;
};

TEST_F(SealedArchiveTest, EverySizeRoundTrips) {
  for (const size_t size : {size_t{0}, size_t{1}, kChunk - table_ - 1, kChunk - table_, kChunk - table_ + 1, kChunk - 1,
                            kChunk, kChunk + 1, 16 * kChunk - table_, 16 * kChunk, 40 * kChunk + 123}) {
    SCOPED_TRACE(size);
    const Bytes plain = random_bytes(size, size);
    const size_t chunks = (table_ + size + kChunk - 1) / kChunk;
    EXPECT_EQ(sealed(plain).size(), kArchiveHeaderBytes + chunks * kSealedChunkBytes);
    EXPECT_EQ(read_back(), plain);
  }
  EXPECT_THAT(folder_.names(), ElementsAre("a.sealed"));
}

TEST_F(SealedArchiveTest, AnArchiveHoldsATree) {
  SealedArchiveWriter writer(path_, key_,
                             {{.path = "b/c/deep", .bytes = 4},
                              {.path = "empty folder", .is_folder = true},
                              {.path = "b-side", .bytes = 3},
                              {.path = "a", .bytes = 0}});
  std::vector<std::string> order;
  for (const ArchiveEntry& entry : writer.entries()) order.push_back(entry.path);
  EXPECT_THAT(order, ElementsAre("a", "b", "b-side", "b/c", "b/c/deep", "empty folder"));
  writer.write(to_bytes("oneF"));
  writer.write(to_bytes("our"));
  writer.commit();

  const SealedArchive archive(path_, key_);
  EXPECT_EQ(archive.id(), writer.id());
  EXPECT_EQ(archive.content_bytes(), 7U);
  EXPECT_EQ(as_text(archive.read_all(*archive.find("b-side"), 10)), "one");
  EXPECT_EQ(as_text(archive.read_all(*archive.find("b/c/deep"), 10)), "Four");
  EXPECT_EQ(archive.read_all(*archive.find("a"), 10).size(), 0U);
  EXPECT_TRUE(archive.find("empty folder")->is_folder);
  EXPECT_TRUE(archive.find("b/c")->is_folder);
  EXPECT_EQ(archive.find("b/d"), nullptr);
  EXPECT_EQ(archive.find(""), nullptr);
  EXPECT_THAT(message_of<InputError>([&] { (void)archive.read_all(*archive.find("b"), 10); }), HasSubstr("a folder"));
  EXPECT_THAT(message_of<InputError>([&] { (void)archive.read_all(*archive.find("b-side"), 2); }),
              HasSubstr("\"b-side\" is 3 bytes, expected a file of at most 2 bytes"));
}

TEST_F(SealedArchiveTest, AnArchiveRevealsNoPlaintextAndNeverRepeats) {
  const Bytes plain = to_bytes(std::string(1000, 'A'));
  const Bytes first = sealed(plain), second = sealed(plain);
  for (const std::string& marker : {std::string("AAAAAAAA"), std::string("data")}) {
    const Bytes bytes = to_bytes(marker);
    EXPECT_EQ(std::search(first.begin(), first.end(), bytes.begin(), bytes.end()), first.end()) << marker;
  }
  EXPECT_EQ(first.size(), sealed(to_bytes("B")).size());                                  // only whole chunks show
  EXPECT_FALSE(std::equal(first.begin() + 24, first.begin() + 40, second.begin() + 24));  // archive ids
  EXPECT_FALSE(std::equal(first.begin() + chunk_at(0), first.end(), second.begin() + chunk_at(0)));
}

TEST_F(SealedArchiveTest, RandomAccessReadsTheSameBytesAsSequentialAccess) {
  const Bytes plain = random_bytes(7 * kChunk + 1000, 5);
  sealed(plain);
  const SealedArchive archive(path_, key_);
  const ArchiveEntry& file = *archive.find("data");
  Csprng random(key_from_seed_insecure(kSeed));
  ThreadPool threads(3);
  for (int i = 0; i < 300; ++i) {
    const size_t offset = random.below(static_cast<uint32_t>(plain.size() + 1));
    const size_t most = i % 3 == 0 ? plain.size() : i % 3 == 1 ? 100 : kChunk + 1;
    const size_t count = random.below(static_cast<uint32_t>(std::min(most, plain.size() - offset) + 1));
    Bytes got(count);
    archive.read(file, offset, got, i % 2 == 0 ? &threads : nullptr);
    ASSERT_TRUE(std::equal(got.begin(), got.end(), plain.begin() + static_cast<ptrdiff_t>(offset)))
        << offset << "+" << count << " seed=" << kSeed;
  }
  Bytes got(2);
  EXPECT_THAT(message_of<InputError>([&] { archive.read(file, plain.size() - 1, got); }), HasSubstr("it has "));
  EXPECT_THROW(archive.read(file, plain.size() + 1, {}), InputError);
  EXPECT_THROW(archive.read(file, UINT64_MAX, got), InputError);
}

TEST_F(SealedArchiveTest, SeveralThreadsCanReadAtOnce) {
  const Bytes plain = random_bytes(9 * kChunk, 6);
  sealed(plain);
  const SealedArchive archive(path_, key_);
  std::vector<std::thread> readers;
  std::atomic<int> wrong = 0;
  for (uint64_t t = 0; t < 4; ++t)
    readers.emplace_back([&, t] {
      Csprng random(key_from_seed_insecure(t));
      for (int i = 0; i < 100; ++i) {
        const size_t offset = random.below(static_cast<uint32_t>(plain.size() - 5000));
        Bytes got(5000);
        archive.read(*archive.find("data"), offset, got);
        wrong += std::equal(got.begin(), got.end(), plain.begin() + static_cast<ptrdiff_t>(offset)) ? 0 : 1;
      }
    });
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(SealedArchiveTest, EveryAlteredBitOfTheHeaderIsRefused) {
  const Bytes good = sealed(random_bytes(50, 4));
  for (size_t i = 0; i < kArchiveHeaderBytes + 100; ++i)
    for (int bit = 0; bit < 8; ++bit) {
      SCOPED_TRACE(fmt::format("byte {} bit {}", i, bit));
      Bytes bad = good;
      bad[i] ^= static_cast<std::byte>(1U << bit);
      EXPECT_FALSE(refusal(bad).empty());
    }
}

TEST_F(SealedArchiveTest, HeaderChecksEachHaveTheirMessage) {
  const Bytes good = sealed(random_bytes(50, 5));
  const auto altered = [&](size_t offset, uint8_t value) {
    Bytes bad = good;
    bad[offset] = std::byte{value};
    return refusal(bad);
  };
  EXPECT_EQ(altered(0, 'X'), "not a sealed archive; expected it to begin with TEMPOARC");
  EXPECT_EQ(refusal({}), "not a sealed archive; expected it to begin with TEMPOARC");
  EXPECT_EQ(altered(8, 2), "sealed archive of version 2, expected 1");
  EXPECT_EQ(altered(12, 1), "sealed in chunks of 65537 bytes, expected 65536");
  EXPECT_THAT(altered(16, static_cast<uint8_t>(good[16]) ^ 1U), HasSubstr("the key given is " + key_id(key_)));
  EXPECT_EQ(altered(24, static_cast<uint8_t>(good[24]) ^ 1U), refused_chunk(1, 1));
  EXPECT_EQ(altered(40, 0), "0 chunks, expected 1 to 1099511628801");
  EXPECT_EQ(altered(47, 1), "72057594037927937 chunks, expected 1 to 1099511628801");
}

TEST_F(SealedArchiveTest, AnotherKeyIsRefusedAndNamed) {
  const SecretKey other = key_from_seed_insecure(2);
  Bytes bytes = sealed(random_bytes(10, 7));
  EXPECT_EQ(message_of<InputError>([&] { SealedArchive(path_, other); }),
            fmt::format("{}: sealed under key {}, the key given is {}", path_.string(), key_id(key_), key_id(other)));
  // Even when the file claims to be of the other key.
  const auto id = key_id_bytes(other);
  std::copy(id.begin(), id.end(), bytes.begin() + 16);
  EXPECT_EQ(message_of<InputError>([&] { SealedArchive(bytes, "forged", other); }), "forged: " + refused_chunk(1, 1));
}

TEST_F(SealedArchiveTest, AlteredChunksAreRefusedAndNamed) {
  const Bytes good = sealed(random_bytes(5 * kChunk, 8));
  for (const size_t chunk : {0, 1, 4, 5})
    for (const size_t place : {size_t{0}, size_t{23}, size_t{24}, size_t{5000}, kSealedChunkBytes - 1}) {
      Bytes bad = good;
      bad[static_cast<size_t>(chunk_at(chunk)) + place] ^= std::byte{1};
      EXPECT_EQ(refusal(bad), refused_chunk(chunk + 1, 6));
    }
}

TEST_F(SealedArchiveTest, AReadThatDoesNotTouchTheAlteredChunkSucceeds) {
  const Bytes plain = random_bytes(5 * kChunk, 8);
  Bytes bad = sealed(plain);
  bad[static_cast<size_t>(chunk_at(3))] ^= std::byte{1};
  const SealedArchive archive(bad, "x", key_);
  Bytes got(kChunk);
  archive.read(*archive.find("data"), 0, got);
  EXPECT_TRUE(std::equal(got.begin(), got.end(), plain.begin()));
  for (int again = 0; again < 2; ++again)
    EXPECT_EQ(message_of<InputError>([&] { archive.read(*archive.find("data"), 3 * kChunk, std::span(got).first(1)); }),
              "x: " + refused_chunk(4, 6));
  ThreadPool threads(2);
  Bytes all(plain.size());
  EXPECT_EQ(message_of<InputError>([&] { archive.read(*archive.find("data"), 0, all, &threads); }),
            "x: " + refused_chunk(4, 6));
}

TEST_F(SealedArchiveTest, TruncatedAndExtendedArchivesAreRefused) {
  const Bytes good = sealed(random_bytes(3 * kChunk, 9));
  const auto cut_at = [&](ptrdiff_t size) { return refusal(Bytes(good.begin(), good.begin() + size)); };
  for (const size_t chunk : {0, 1, 2, 3}) {
    EXPECT_EQ(cut_at(chunk_at(chunk)), fmt::format("cut short: it ends in chunk {} of 4", chunk + 1));
    EXPECT_EQ(cut_at(chunk_at(chunk) + 1000), fmt::format("cut short: it ends in chunk {} of 4", chunk + 1));
  }
  EXPECT_EQ(cut_at(static_cast<ptrdiff_t>(good.size()) - 1), "cut short: it ends in chunk 4 of 4");
  for (ptrdiff_t size = 8; size < static_cast<ptrdiff_t>(kArchiveHeaderBytes); ++size)
    EXPECT_THAT(cut_at(size), HasSubstr("cut short: "));
  // A header that agrees with the cut does not authenticate any more.
  Bytes shorter(good.begin(), good.begin() + chunk_at(3));
  shorter[40] = std::byte{3};
  EXPECT_EQ(refusal(shorter), refused_chunk(1, 3));
  Bytes longer = good;
  longer.push_back(std::byte{0});
  EXPECT_EQ(refusal(longer), "1 bytes after chunk 4, the last, expected none");
  longer.insert(longer.end(), good.begin() + chunk_at(3) + 1, good.end());
  longer[40] = std::byte{5};
  EXPECT_EQ(refusal(longer), refused_chunk(1, 5));
}

TEST_F(SealedArchiveTest, ChunksCannotBeSwappedOrRepeated) {
  const Bytes good = sealed(random_bytes(4 * kChunk, 10));
  Bytes swapped = good;
  std::swap_ranges(swapped.begin() + chunk_at(1), swapped.begin() + chunk_at(2), swapped.begin() + chunk_at(2));
  EXPECT_EQ(refusal(swapped), refused_chunk(2, 5));
  Bytes repeated = good;
  std::copy(good.begin() + chunk_at(2), good.begin() + chunk_at(3), repeated.begin() + chunk_at(3));
  EXPECT_EQ(refusal(repeated), refused_chunk(4, 5));
  Bytes last = good;  // also by its tag
  std::copy(good.begin() + chunk_at(3), good.begin() + chunk_at(4), last.begin() + chunk_at(4));
  EXPECT_EQ(refusal(last), refused_chunk(5, 5));
}

TEST_F(SealedArchiveTest, ChunksOfAnotherArchiveAreRefused) {
  const Bytes plain = random_bytes(4 * kChunk, 11);
  const Bytes one = sealed(plain), other = sealed(plain);  // same key, same files
  for (const size_t chunk : {0, 2, 4}) {
    Bytes mixed = one;
    std::copy(other.begin() + chunk_at(chunk), other.begin() + chunk_at(chunk + 1), mixed.begin() + chunk_at(chunk));
    EXPECT_EQ(refusal(mixed), refused_chunk(chunk + 1, 5));
  }
}

TEST_F(SealedArchiveTest, FilesThatCannotBeOpenedAreReported) {
  EXPECT_THAT(message_of<InputError>([&] { SealedArchive(folder_ / "absent", key_); }), HasSubstr("cannot be read"));
  EXPECT_THAT(message_of<InputError>([&] { SealedArchive(folder_.path(), key_); }), HasSubstr("not a file"));
  EXPECT_FALSE(looks_like_archive(folder_ / "absent"));
  EXPECT_FALSE(looks_like_archive(folder_.path()));
  sealed({});
  EXPECT_TRUE(looks_like_archive(path_));
}

TEST_F(SealedArchiveTest, AFileTruncatedAfterOpeningIsRefused) {
  sealed(random_bytes(4 * kChunk, 12));
  const SealedArchive archive(path_, key_);
  std::filesystem::resize_file(path_, static_cast<uintmax_t>(chunk_at(2)));
  EXPECT_EQ(message_of<InputError>([&] { (void)archive.read_all(*archive.find("data"), kLimit); }),
            path_.string() + ": " + refused_chunk(3, 5));
}

TEST_F(SealedArchiveTest, AWriterRefusesContentsOfAnotherSizeThanAnnounced) {
  {
    SealedArchiveWriter writer(path_, key_, {{.path = "a", .bytes = 3}});
    EXPECT_THAT(message_of<RunError>([&] { writer.write(to_bytes("four")); }), HasSubstr("more than the 3 bytes"));
    writer.write(to_bytes("to"));
    EXPECT_THAT(message_of<RunError>([&] { writer.commit(); }), HasSubstr("2 bytes of contents, 3 were announced"));
  }
  EXPECT_THAT(folder_.names(), ElementsAre());
}

TEST_F(SealedArchiveTest, AnInterruptedWriterWithoutResumeLeavesTheOldFile) {
  const Bytes old = random_bytes(100, 20);
  sealed(old);
  {
    SealedArchiveWriter writer(path_, key_, {{.path = "data", .bytes = 3 * kChunk}});
    writer.write(random_bytes(2 * kChunk, 21));
  }
  EXPECT_EQ(read_back(), old);
  EXPECT_THAT(folder_.names(), ElementsAre("a.sealed"));
  testing::write_text(folder_ / "a.sealed.partial", "somebody's");
  EXPECT_THAT(message_of<InputError>([&] { sealed(old); }), HasSubstr("a.sealed.partial: not a sealed archive"));
  EXPECT_EQ(read_text_file(folder_ / "a.sealed.partial", 100), "somebody's");
}

}  // namespace sealed_archive_test
}  // namespace tempo::seal
