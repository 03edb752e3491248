/// What all of attestation is written in: digests, time, hexadecimal.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tempo::attest {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;
using Digest16 = std::array<std::byte, 16>;
using Digest32 = std::array<std::byte, 32>;
using Digest48 = std::array<std::byte, 48>;
using Digest64 = std::array<std::byte, 64>;
/// What a guest had its hardware sign.
using ReportData = Digest64;

/// Seconds of UTC. Nothing in this folder reads a clock but `utc_now`: whoever verifies says when.
using UtcTime = std::chrono::sys_seconds;
UtcTime utc_now();
/// "2025-07-01" or "2025-07-01T10:16:03Z". @throws InputError naming `what` for anything else.
UtcTime parse_utc(std::string_view text, std::string_view what);
/// "2025-07-01T10:16:03Z".
std::string to_text(UtcTime time);

/// Bytes as the libraries in C take them.
inline const unsigned char* raw(ByteView bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
/// The bytes of a text, which is borrowed.
inline ByteView bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

/// Lower-case digits.
std::string to_hex(ByteView bytes);
/// Either case. @throws InputError naming `what` unless it is exactly so many bytes.
Bytes from_hex(std::string_view text, size_t bytes, std::string_view what);
template <size_t kBytes>
std::array<std::byte, kBytes> digest_from_hex(std::string_view text, std::string_view what) {
  const Bytes bytes = from_hex(text, kBytes, what);
  std::array<std::byte, kBytes> digest{};
  for (size_t i = 0; i < kBytes; ++i) digest[i] = bytes[i];
  return digest;
}

}  // namespace tempo::attest
