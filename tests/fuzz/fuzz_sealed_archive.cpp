// The first byte chooses what the rest is:
//   0  a table of files; one that is accepted is encoded to the same bytes again
//   1  a whole file, of any bytes
//   2  the plaintext of an archive whose author holds the key; what is accepted can be read whole, and in pieces
//   3  changes of a good archive, five bytes each; it is accepted only if they come to nothing
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/byte_reader.h"
#include "base/csprng.h"
#include "seal/archive_format.h"
#include "seal/sealed_archive.h"
#include "tempo/error.h"

namespace {

using namespace tempo::seal;
using Bytes = std::vector<std::byte>;

constexpr size_t kMaxInputBytes = 200'000;
constexpr size_t kLimit = 1 << 20;

void require(bool holds) {
  if (!holds) std::abort();
}

const tempo::SecretKey& key() {
  static const tempo::SecretKey kKey = tempo::key_from_seed_insecure(1);
  return kKey;
}

/// `plain` sealed as it is, zeros to the end of the last chunk.
Bytes seal_as_is(Bytes plain) {
  const size_t chunks = std::max<size_t>(1, (plain.size() + kArchiveChunkBytes - 1) / kArchiveChunkBytes);
  plain.resize(chunks * kArchiveChunkBytes);
  const ArchiveHeader header = ArchiveHeader::fresh(key(), chunks);
  const ArchiveCipher cipher(key(), header);
  Bytes file(header.file_bytes());
  const auto head = header.encode();
  std::copy(head.begin(), head.end(), file.begin());
  for (size_t i = 0; i < chunks; ++i)
    cipher.seal(i, std::span(plain).subspan(i * kArchiveChunkBytes, kArchiveChunkBytes),
                std::span(file).subspan(kArchiveHeaderBytes + i * kSealedChunkBytes, kSealedChunkBytes));
  return file;
}

void read_everything(const SealedArchive& archive) {
  for (const ArchiveEntry& entry : archive.entries()) {
    require(archive.find(entry.path) == &entry);
    if (entry.is_folder || entry.bytes > kLimit) continue;
    const tempo::SecretBytes whole = archive.read_all(entry, kLimit);
    Bytes part(whole.size() / 2);
    archive.read(entry, whole.size() - part.size(), part);
    require(std::equal(part.begin(), part.end(), whole.bytes().end() - static_cast<ptrdiff_t>(part.size())));
  }
}

void parse_table_bytes(std::span<const std::byte> bytes) {
  const Bytes again = encode_table(parse_table(bytes, "fuzz"));
  require(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
}

const Bytes& good_archive() {
  static const Bytes kArchive = [] {
    const ArchiveTable table = make_table({{.path = "a", .bytes = 100'000}, {.path = "b/c", .bytes = 60'000}});
    Bytes plain = encode_table(table);
    plain.resize(table.table_bytes + table.content_bytes, std::byte{7});
    return seal_as_is(std::move(plain));
  }();
  return kArchive;
}
const Bytes& other_archive() {
  static const Bytes kArchive = seal_as_is(Bytes(3 * kArchiveChunkBytes));
  return kArchive;
}

/// One change: what, where (three bytes), how.
void change(Bytes& file, std::span<const std::byte> recipe) {
  const auto at = [&](size_t i) { return std::to_integer<size_t>(recipe[i]); };
  const size_t where = at(1) | at(2) << 8U | at(3) << 16U;
  const auto chunk = [](size_t i) { return static_cast<ptrdiff_t>(kArchiveHeaderBytes + i % 3 * kSealedChunkBytes); };
  const bool is_whole = file.size() == good_archive().size();
  switch (at(0) % 5) {
    case 0:
      if (!file.empty()) file[where % file.size()] ^= recipe[4];
      break;
    case 1:
      file.resize(where % (file.size() + 100));
      break;
    case 2:
      if (is_whole && where % 3 != at(4) % 3)
        std::swap_ranges(file.begin() + chunk(where), file.begin() + chunk(where) + kSealedChunkBytes,
                         file.begin() + chunk(at(4)));
      break;
    case 3:
      if (is_whole) std::copy_n(other_archive().begin() + chunk(where), kSealedChunkBytes, file.begin() + chunk(at(4)));
      break;
    default:
      if (file.size() >= kArchiveHeaderBytes) file[where % kArchiveHeaderBytes] = recipe[4];
  }
}

void open_changed(std::span<const std::byte> recipe) {
  Bytes file = good_archive();
  for (; recipe.size() >= 5; recipe = recipe.subspan(5)) change(file, recipe.first(5));
  const bool is_good = file == good_archive();
  try {
    const SealedArchive archive(std::move(file), "fuzz", key());
    read_everything(archive);
  } catch (const tempo::InputError&) {
    require(!is_good);
    throw;
  }
  require(is_good);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > kMaxInputBytes) return 0;
  const auto rest = std::as_bytes(std::span(data, size)).subspan(1);
  try {
    switch (data[0] % 4) {
      case 0:
        parse_table_bytes(rest);
        break;
      case 1:
        read_everything(SealedArchive(Bytes(rest.begin(), rest.end()), "fuzz", key()));
        break;
      case 2:
        read_everything(SealedArchive(seal_as_is(Bytes(rest.begin(), rest.end())), "fuzz", key()));
        break;
      default:
        open_changed(rest.first(std::min<size_t>(rest.size(), 40)));
    }
  } catch (const tempo::InputError&) {
  }
  return 0;
}
