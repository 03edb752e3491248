#include "seal/archive_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <set>

#include "base/byte_reader.h"
#include "base/csprng.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

constexpr uint32_t kArchiveVersion = 1;
constexpr uint8_t kFileKind = 0, kFolderKind = 1;
constexpr size_t kTableHeadBytes = kTableLengthBytes + kFingerprintBytes + 4;
constexpr size_t kMinEntryBytes = 1 + 4 + 1;  // kind, length, a name of one byte
/// Chunks of the largest contents and the largest table.
constexpr uint64_t kMaxChunks = (kMaxContentBytes + kMaxTableBytes) / kArchiveChunkBytes + 1;

using Bytes = std::vector<std::byte>;

template <size_t kBytes>
std::array<std::byte, kBytes> array_of(std::span<const std::byte> bytes) {
  std::array<std::byte, kBytes> out{};
  assert(bytes.size() == kBytes);
  std::copy_n(bytes.begin(), kBytes, out.begin());
  return out;
}

std::string_view parent_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

/// What is wrong with a path, or nullptr.
const char* problem_of(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes) return "has no or too many bytes";
  size_t depth = 0;
  for (size_t begin = 0; begin <= path.size(); ++depth) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view name = path.substr(begin, end - begin);
    if (name.empty()) return "is absolute or has an empty name in it";
    if (name == "." || name == "..") return "has . or .. in it";
    if (name.size() > kMaxNameBytes) return "has a name of more than 255 bytes";
    if (std::any_of(name.begin(), name.end(), [](char c) { return (c >= 0 && c < ' ') || c == '\x7F'; }))
      return "has a control character in it";
    begin = end + 1;
  }
  return depth > kMaxDepth ? "is more than 64 folders deep" : nullptr;
}

/// Every rule of the order and the names, for writer and reader alike; then the offsets.
void check_and_lay_out(ArchiveTable& table, const std::string& source) {
  if (table.entries.size() > kMaxEntries)
    throw InputError(
        fmt::format("{}: {} files and folders, expected at most {}", source, table.entries.size(), kMaxEntries));
  std::set<std::string_view> folders{""};
  const ArchiveEntry* last = nullptr;
  for (const ArchiveEntry& entry : table.entries) {
    const std::string name = quote_untrusted(entry.path);
    if (const char* problem = problem_of(entry.path))
      throw InputError(fmt::format("{}: path {} {}, expected a plain path inside the tree", source, name, problem));
    if (last != nullptr && last->path >= entry.path)
      throw InputError(fmt::format("{}: path {} comes {}, expected every path once and in order", source, name,
                                   last->path == entry.path ? "twice" : "out of order"));
    if (!folders.contains(parent_of(entry.path)))
      throw InputError(fmt::format("{}: path {} is not inside a folder of the tree", source, name));
    if (entry.is_folder) folders.insert(entry.path);
    if (entry.bytes > kMaxContentBytes - table.content_bytes)
      throw InputError(fmt::format("{}: files of more than 2^56 bytes together, expected less", source));
    table.content_bytes += entry.bytes;
    last = &entry;
  }
  uint64_t offset = table.table_bytes;
  for (ArchiveEntry& entry : table.entries) {
    entry.offset = offset;
    offset += entry.bytes;
  }
}

ArchiveEntry parse_entry(ByteReader& reader) {
  const uint8_t kind = reader.u8();
  if (kind != kFileKind && kind != kFolderKind)
    throw InputError(fmt::format("{}: an entry of kind {}, expected 0 or 1", reader.source(), kind));
  ArchiveEntry entry;
  entry.is_folder = kind == kFolderKind;
  const uint32_t length = reader.u32();
  if (length > kMaxPathBytes)
    throw InputError(
        fmt::format("{}: a path of {} bytes, expected at most {}", reader.source(), length, kMaxPathBytes));
  entry.path = reader.text(length);
  if (!entry.is_folder) entry.bytes = reader.u64();
  return entry;
}

}  // namespace

ArchiveHeader ArchiveHeader::fresh(const SecretKey& key, uint64_t chunks) {
  ArchiveHeader header{.key_id = key_id_bytes(key), .archive_id = {}, .chunks = chunks};
  if (sodium_init() < 0) throw RunError("seal: libsodium could not be initialised");
  randombytes_buf(header.archive_id.data(), header.archive_id.size());
  return header;
}

std::array<std::byte, kArchiveHeaderBytes> ArchiveHeader::encode() const {
  Bytes out;
  out.reserve(kArchiveHeaderBytes);
  append(out, kArchiveMagic);
  append_u32(out, kArchiveVersion);
  append_u32(out, kArchiveChunkBytes);
  append(out, key_id);
  append(out, archive_id);
  append_u64(out, chunks);
  return array_of<kArchiveHeaderBytes>(out);
}

ArchiveHeader parse_archive_header(std::span<const std::byte> bytes, const SecretKey& key, const std::string& source) {
  ByteReader reader(bytes, source);
  if (reader.left() < kArchiveMagic.size() || reader.text(kArchiveMagic.size()) != kArchiveMagic)
    throw InputError(fmt::format("{}: not a sealed archive; expected it to begin with {}", source, kArchiveMagic));
  if (const uint32_t version = reader.u32(); version != kArchiveVersion)
    throw InputError(fmt::format("{}: sealed archive of version {}, expected {}", source, version, kArchiveVersion));
  if (const uint32_t chunk = reader.u32(); chunk != kArchiveChunkBytes)
    throw InputError(fmt::format("{}: sealed in chunks of {} bytes, expected {}", source, chunk, kArchiveChunkBytes));
  ArchiveHeader header;
  header.key_id = array_of<kKeyIdBytes>(reader.bytes(kKeyIdBytes));
  check_key_id(header.key_id, key, source);
  header.archive_id = array_of<kArchiveIdBytes>(reader.bytes(kArchiveIdBytes));
  header.chunks = reader.u64();
  if (header.chunks == 0 || header.chunks > kMaxChunks)
    throw InputError(fmt::format("{}: {} chunks, expected 1 to {}", source, header.chunks, kMaxChunks));
  return header;
}

ArchiveCipher::ArchiveCipher(const SecretKey& key, const ArchiveHeader& header)
    : header_(header.encode()),
      chunks_(header.chunks),
      key_(derive_key(
          key, "sealed-archive",
          {std::string_view(reinterpret_cast<const char*>(header.archive_id.data()), header.archive_id.size())})) {}

ArchiveCipher::Additional ArchiveCipher::additional(uint64_t index) const {
  Additional out{};
  const auto rest = std::copy(header_.begin(), header_.end(), out.begin());
  for (int i = 0; i < 8; ++i) rest[i] = static_cast<std::byte>(index >> (8 * i));
  return out;
}

void ArchiveCipher::seal(uint64_t index, std::span<const std::byte> plain, std::span<std::byte> sealed) const {
  assert(index < chunks_ && plain.size() == kArchiveChunkBytes && sealed.size() == kSealedChunkBytes);
  // A nonce from the system every time: a chunk that is sealed again after an interruption never meets its own again.
  SecretStream stream(key_, sealed.first<kStreamHeaderBytes>());
  stream.push(plain, additional(index), tag(index), sealed.subspan(kStreamHeaderBytes));
}

bool ArchiveCipher::open(uint64_t index, std::span<const std::byte> sealed, std::span<std::byte> plain) const {
  assert(index < chunks_ && plain.size() == kArchiveChunkBytes && sealed.size() == kSealedChunkBytes);
  SecretStream stream(key_, sealed.first<kStreamHeaderBytes>());
  return stream.pull(sealed.subspan(kStreamHeaderBytes), additional(index), plain) == tag(index);
}

uint64_t ArchiveTable::chunks() const {
  return (table_bytes + content_bytes + kArchiveChunkBytes - 1) / kArchiveChunkBytes;
}

ArchiveTable make_table(std::vector<ArchiveEntry> entries, std::span<const std::byte> fingerprint) {
  std::set<std::string> known;
  for (const ArchiveEntry& entry : entries) known.insert(entry.path);
  for (size_t i = 0; i < entries.size(); ++i) {  // grows: a folder that is added may want its own
    const std::string parent(parent_of(entries[i].path));
    if (!parent.empty() && known.insert(parent).second) entries.push_back({.path = parent, .is_folder = true});
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  ArchiveTable table{.entries = std::move(entries), .fingerprint = {}};
  if (!fingerprint.empty()) table.fingerprint = array_of<kFingerprintBytes>(fingerprint);
  table.table_bytes = kTableHeadBytes;
  for (const ArchiveEntry& entry : table.entries)
    table.table_bytes += 1 + 4 + entry.path.size() + (entry.is_folder ? 0 : 8);
  if (table.table_bytes > kMaxTableBytes)
    throw InputError(
        fmt::format("seal: names of {} bytes together, expected at most {}", table.table_bytes, kMaxTableBytes));
  check_and_lay_out(table, "seal");
  return table;
}

std::vector<std::byte> encode_table(const ArchiveTable& table) {
  Bytes out;
  out.reserve(table.table_bytes);
  append_u64(out, table.table_bytes);
  append(out, table.fingerprint);
  append_u32(out, static_cast<uint32_t>(table.entries.size()));
  for (const ArchiveEntry& entry : table.entries) {
    out.push_back(std::byte{entry.is_folder ? kFolderKind : kFileKind});
    append_u32(out, static_cast<uint32_t>(entry.path.size()));
    append(out, entry.path);
    if (!entry.is_folder) append_u64(out, entry.bytes);
  }
  assert(out.size() == table.table_bytes);
  return out;
}

uint64_t parse_table_length(std::span<const std::byte> bytes, const std::string& source) {
  const uint64_t length = ByteReader(bytes, source).u64();
  if (length < kTableHeadBytes || length > kMaxTableBytes)
    throw InputError(fmt::format("{}: table of files of {} bytes, expected {} to {}", source, length, kTableHeadBytes,
                                 kMaxTableBytes));
  return length;
}

ArchiveTable parse_table(std::span<const std::byte> bytes, const std::string& source) {
  ArchiveTable table;
  table.table_bytes = parse_table_length(bytes, source);
  if (table.table_bytes != bytes.size())
    throw InputError(
        fmt::format("{}: table of files of {} bytes, expected {}", source, table.table_bytes, bytes.size()));
  ByteReader reader(bytes.subspan(kTableLengthBytes), source);
  table.fingerprint = array_of<kFingerprintBytes>(reader.bytes(kFingerprintBytes));
  const uint32_t count = reader.u32();
  if (count > kMaxEntries || count > reader.left() / kMinEntryBytes)
    throw InputError(
        fmt::format("{}: {} files and folders in a table of {} bytes, expected fewer", source, count, bytes.size()));
  table.entries.reserve(count);
  for (uint32_t i = 0; i < count; ++i) table.entries.push_back(parse_entry(reader));
  if (reader.left() != 0)
    throw InputError(fmt::format("{}: {} bytes after the table of files, expected none", source, reader.left()));
  check_and_lay_out(table, source);
  return table;
}

}  // namespace tempo::seal
