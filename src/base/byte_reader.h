/// Little-endian bytes from outside: a reader that never leaves its span, and the counterpart that writes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tempo {

/// Reads a byte format front to back. Borrows the bytes; copies nothing but `text`. Not thread-safe.
/// Every read @throws InputError if fewer bytes are left than it wants:
/// "SOURCE: cut short: N bytes wanted at offset O, L left". The position does not move then.
class ByteReader {
 public:
  /// @param source names the bytes in messages, e.g. a path.
  ByteReader(std::span<const std::byte> bytes, std::string source) : bytes_(bytes), source_(std::move(source)) {}

  uint8_t u8();
  uint32_t u32();
  uint64_t u64();
  /// A view into the bytes, `count` long.
  std::span<const std::byte> bytes(size_t count);
  /// `count` bytes as they are: not checked to be UTF-8 or printable. Show them only through `quote_untrusted`.
  std::string text(size_t count);

  [[nodiscard]] size_t offset() const noexcept { return offset_; }
  [[nodiscard]] size_t left() const noexcept { return bytes_.size() - offset_; }
  [[nodiscard]] const std::string& source() const noexcept { return source_; }

 private:
  template <typename Integer>
  Integer little_endian();

  std::span<const std::byte> bytes_;
  size_t offset_ = 0;
  std::string source_;
};

void append(std::vector<std::byte>& out, std::span<const std::byte> bytes);
void append(std::vector<std::byte>& out, std::string_view text);
void append_u32(std::vector<std::byte>& out, uint32_t value);
void append_u64(std::vector<std::byte>& out, uint64_t value);

/// Untrusted text made fit for a one-line message: in quotes, at most `max_bytes` of it, and every byte that is not
/// printable ASCII written as \xNN.
std::string quote_untrusted(std::string_view untrusted, size_t max_bytes = 64);

}  // namespace tempo
