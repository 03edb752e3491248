#include "base/text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "tempo/error.h"

namespace tempo {
namespace {

/// Bytes of the character at the front; 0 if it is none.
size_t character_bytes(std::string_view bytes) noexcept {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;  // a continuation, an overlong form, or beyond U+10FFFF
  const size_t size = first < 0xE0 ? 2 : (first < 0xF0 ? 3 : 4);
  if (bytes.size() < size) return 0;
  for (size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xC0U) != 0x80U) return 0;
  const unsigned char second = byte(1);
  const bool is_overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool is_surrogate = first == 0xED && second > 0x9F;
  const bool is_beyond = first == 0xF4 && second > 0x8F;
  return is_overlong || is_surrogate || is_beyond ? 0 : size;
}

template <typename Number>
std::optional<Number> parse_whole(std::string_view text) noexcept {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<size_t> find_non_text(std::string_view bytes) noexcept {
  for (size_t at = 0; at < bytes.size();) {
    const size_t size = bytes[at] == '\0' ? 0 : character_bytes(bytes.substr(at));
    if (size == 0) return at;
    at += size;
  }
  return std::nullopt;
}

void check_text(std::string_view bytes, const std::string& what) {
  const auto at = find_non_text(bytes);
  if (!at) return;
  throw InputError(fmt::format("{}: byte {} of {} is {}, expected text in UTF-8", what, *at + 1, bytes.size(),
                               bytes[*at] == '\0' ? "NUL" : "not UTF-8"));
}

std::optional<int64_t> parse_decimal(std::string_view text) noexcept { return parse_whole<int64_t>(text); }

std::optional<double> parse_real(std::string_view text) noexcept {
  const auto value = parse_whole<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

}  // namespace tempo
