#include "base/byte_reader.h"

#include <fmt/format.h>

#include <iterator>

#include "tempo/error.h"

namespace tempo {
namespace {

template <typename Integer>
void append_little_endian(std::vector<std::byte>& out, Integer value) {
  for (size_t i = 0; i < sizeof(Integer); ++i) out.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xFFU));
}

}  // namespace

std::span<const std::byte> ByteReader::bytes(size_t count) {
  if (count > left())
    throw InputError(
        fmt::format("{}: cut short: {} bytes wanted at offset {}, {} left", source_, count, offset_, left()));
  const auto view = bytes_.subspan(offset_, count);
  offset_ += count;
  return view;
}

template <typename Integer>
Integer ByteReader::little_endian() {
  const auto view = bytes(sizeof(Integer));
  Integer value = 0;
  for (size_t i = 0; i < sizeof(Integer); ++i)
    value = static_cast<Integer>(value | (static_cast<Integer>(std::to_integer<uint8_t>(view[i])) << (8 * i)));
  return value;
}

uint8_t ByteReader::u8() { return std::to_integer<uint8_t>(bytes(1)[0]); }
uint32_t ByteReader::u32() { return little_endian<uint32_t>(); }
uint64_t ByteReader::u64() { return little_endian<uint64_t>(); }

std::string ByteReader::text(size_t count) {
  const auto view = bytes(count);
  return {reinterpret_cast<const char*>(view.data()), view.size()};
}

void append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}
void append(std::vector<std::byte>& out, std::string_view text) {
  append(out, std::as_bytes(std::span(text.data(), text.size())));
}
void append_u32(std::vector<std::byte>& out, uint32_t value) { append_little_endian(out, value); }
void append_u64(std::vector<std::byte>& out, uint64_t value) { append_little_endian(out, value); }

std::string quote_untrusted(std::string_view untrusted, size_t max_bytes) {
  std::string out = "\"";
  for (const char symbol : untrusted.substr(0, max_bytes)) {
    if (symbol == '"' || symbol == '\\')
      out.append({'\\', symbol});
    else if (symbol >= ' ' && symbol <= '~')
      out.push_back(symbol);
    else
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(symbol));
  }
  out.push_back('"');
  if (untrusted.size() > max_bytes) fmt::format_to(std::back_inserter(out), " ({} bytes)", untrusted.size());
  return out;
}

}  // namespace tempo
