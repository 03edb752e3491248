#include "seal/sealed_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <optional>
#include <utility>

#include "base/byte_reader.h"
#include "base/csprng.h"
#include "base/file.h"
#include "seal/secret_stream.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace {

constexpr std::string_view kMagic = "TEMPOSEA";
constexpr uint32_t kFileVersion = 1;
constexpr size_t kMaxHeaderBytes = kMagic.size() + 4 + 4 + kKeyIdBytes + 4 + kMaxKindBytes + kStreamHeaderBytes;

using Bytes = std::vector<std::byte>;

SecretKey stream_key(const SecretKey& key, std::string_view kind) { return derive_key(key, "sealed-file", {kind}); }

/// Plaintext that is wiped unless it was handed over.
class Plaintext {
 public:
  /// Reserves at once: growing would leave copies behind that nobody wipes.
  explicit Plaintext(size_t capacity) { bytes_.reserve(capacity); }
  Plaintext(const Plaintext&) = delete;
  Plaintext& operator=(const Plaintext&) = delete;
  ~Plaintext() {
    if (!bytes_.empty()) sodium_memzero(bytes_.data(), bytes_.size());
  }

  std::span<std::byte> extend(size_t count) {
    assert(bytes_.size() + count <= bytes_.capacity());
    bytes_.resize(bytes_.size() + count);
    return std::span(bytes_).last(count);
  }
  [[nodiscard]] size_t size() const { return bytes_.size(); }
  Bytes hand_over() { return std::exchange(bytes_, {}); }

 private:
  Bytes bytes_;
};

/// Checks everything of the header that can be checked without the key. Leaves `reader` at the first chunk.
/// @returns the secretstream header.
std::span<const std::byte, kStreamHeaderBytes> read_header(ByteReader& reader, const SecretKey& key,
                                                           std::string_view kind) {
  const std::string& source = reader.source();
  if (reader.left() < kMagic.size() || reader.text(kMagic.size()) != kMagic)
    throw InputError(fmt::format("{}: not a sealed file; expected it to begin with {}", source, kMagic));
  if (const uint32_t version = reader.u32(); version != kFileVersion)
    throw InputError(fmt::format("{}: sealed file of version {}, expected {}", source, version, kFileVersion));
  if (const uint32_t chunk = reader.u32(); chunk != kChunkBytes)
    throw InputError(fmt::format("{}: sealed in chunks of {} bytes, expected {}", source, chunk, kChunkBytes));
  const auto id = reader.bytes(kKeyIdBytes);
  const uint32_t kind_bytes = reader.u32();
  if (kind_bytes == 0 || kind_bytes > kMaxKindBytes)
    throw InputError(
        fmt::format("{}: kind of {} bytes in the header, expected 1 to {}", source, kind_bytes, kMaxKindBytes));
  if (const std::string found = reader.text(kind_bytes); found != kind)
    throw InputError(
        fmt::format("{}: sealed as {}, expected {}", source, quote_untrusted(found), quote_untrusted(kind)));
  check_key_id(id, key, source);
  return reader.bytes(kStreamHeaderBytes).first<kStreamHeaderBytes>();
}

/// The ciphertext of the next chunk.
std::span<const std::byte> read_chunk(ByteReader& reader, size_t number) {
  const std::string& source = reader.source();
  if (reader.left() == 0)
    throw InputError(
        fmt::format("{}: cut short: it ends after chunk {}, no final chunk was found", source, number - 1));
  if (reader.left() < 4)
    throw InputError(fmt::format("{}: cut short: {} bytes left of the length of chunk {}, no final chunk was found",
                                 source, reader.left(), number));
  const uint32_t length = reader.u32();
  if (length < kTagBytes || length > kTagBytes + kChunkBytes)
    throw InputError(fmt::format("{}: chunk {} was altered: its length is {}, expected {} to {}", source, number,
                                 length, kTagBytes, kTagBytes + kChunkBytes));
  if (length > reader.left())
    throw InputError(fmt::format("{}: cut short: chunk {} has {} bytes, {} left, no final chunk was found", source,
                                 number, length, reader.left()));
  return reader.bytes(length);
}

}  // namespace

struct SealedWriter::State {
  AtomicFile file;
  std::optional<SecretStream> stream;
  Bytes header;   // additional data of the first chunk; empty once that is written
  Bytes pending;  // plaintext of the chunk being filled; never reallocated
  Bytes sealed = Bytes(kChunkBytes + kTagBytes);

  explicit State(std::filesystem::path path) : file(std::move(path)) { pending.reserve(kChunkBytes); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { sodium_memzero(pending.data(), pending.size()); }

  void flush(uint8_t tag) {
    const auto chunk = std::span(sealed).first(pending.size() + kTagBytes);
    stream->push(pending, header, tag, chunk);
    Bytes prefix;
    append_u32(prefix, static_cast<uint32_t>(chunk.size()));
    file.write(prefix);
    file.write(chunk);
    sodium_memzero(pending.data(), pending.size());
    pending.clear();
    header.clear();
  }
};

SealedWriter::SealedWriter(std::filesystem::path path, const SecretKey& key, std::string_view kind) {
  if (kind.empty() || kind.size() > kMaxKindBytes)
    throw InputError(
        fmt::format("seal: kind {} has {} bytes, expected 1 to {}", quote_untrusted(kind), kind.size(), kMaxKindBytes));
  state_ = std::make_unique<State>(std::move(path));
  std::array<std::byte, kStreamHeaderBytes> stream_header{};
  state_->stream.emplace(stream_key(key, kind), std::span(stream_header));

  Bytes& header = state_->header;
  header.reserve(kMaxHeaderBytes);
  append(header, kMagic);
  append_u32(header, kFileVersion);
  append_u32(header, kChunkBytes);
  append(header, key_id_bytes(key));
  append_u32(header, static_cast<uint32_t>(kind.size()));
  append(header, kind);
  append(header, stream_header);
  state_->file.write(header);
}

SealedWriter::~SealedWriter() = default;

void SealedWriter::write(std::span<const std::byte> bytes) {
  // A full chunk waits for the next byte, since only then is it known not to be the final one.
  while (!bytes.empty()) {
    if (state_->pending.size() == kChunkBytes) state_->flush(kMessageTag);
    const size_t count = std::min(bytes.size(), kChunkBytes - state_->pending.size());
    append(state_->pending, bytes.first(count));
    bytes = bytes.subspan(count);
  }
}

void SealedWriter::commit() {
  state_->flush(kFinalTag);
  state_->file.commit();
}

std::vector<std::byte> unseal(std::span<const std::byte> sealed, const std::string& source, const SecretKey& key,
                              std::string_view kind, size_t max_bytes) {
  ByteReader reader(sealed, source);
  const auto stream_header = read_header(reader, key, kind);
  auto additional = sealed.first(reader.offset());
  SecretStream stream(stream_key(key, kind), stream_header);

  Plaintext plain(std::min(reader.left(), max_bytes));
  for (size_t number = 1;; ++number) {
    const auto chunk = read_chunk(reader, number);
    const size_t length = chunk.size() - kTagBytes;
    if (length > max_bytes - plain.size())
      throw InputError(
          fmt::format("{}: more than {} bytes are sealed in it, expected at most that", source, max_bytes));
    const std::optional<uint8_t> tag = stream.pull(chunk, additional, plain.extend(length));
    if (!tag) throw InputError(fmt::format("{}: chunk {} was altered: it does not authenticate", source, number));
    additional = {};
    if (*tag == kFinalTag) break;
    if (*tag != kMessageTag || length != kChunkBytes)
      throw InputError(fmt::format("{}: chunk {} has tag {} and {} bytes, expected tag {} and {} bytes", source, number,
                                   *tag, length, kMessageTag, kChunkBytes));
  }
  if (reader.left() != 0)
    throw InputError(fmt::format("{}: {} bytes after the final chunk, expected none", source, reader.left()));
  return plain.hand_over();
}

std::vector<std::byte> unseal_file(const std::filesystem::path& path, const SecretKey& key, std::string_view kind,
                                   size_t max_bytes) {
  // Without care for overflow: no file has 2^60 bytes.
  const size_t accepted = std::min(max_bytes, size_t{1} << 60U);
  const size_t chunks = accepted / kChunkBytes + 1;
  const size_t overhead = kMaxHeaderBytes + chunks * (4 + kTagBytes);
  return unseal(read_file(path, accepted + overhead), path.string(), key, kind, accepted);
}

}  // namespace tempo::seal
