/// Text and numbers from outside: command lines, files, peers. Linked by both sides of the trust boundary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tempo {

/// Offset of the first byte that text must not have: one that is not part of UTF-8 (RFC 3629), or NUL. Nothing: it is
/// text. A NUL would end a path early, and JSON too for some parsers; bytes that are not UTF-8 fit into no sealed
/// configuration, JSON or TOML.
std::optional<size_t> find_non_text(std::string_view bytes) noexcept;

/// @param what names the bytes in the message, e.g. a path or a flag.
/// @throws InputError "WHAT: byte N of M is NUL, expected text in UTF-8" if they are not text; bytes count from 1.
void check_text(std::string_view bytes, const std::string& what);

/// The whole of `text` as a decimal number: no sign but a minus, no space, no base but ten. Nothing for anything else,
/// and for what the type cannot hold. A `double` is finite.
std::optional<int64_t> parse_decimal(std::string_view text) noexcept;
std::optional<double> parse_real(std::string_view text) noexcept;

}  // namespace tempo
