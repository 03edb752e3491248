/// CRC-32C (Castagnoli; RFC 3720, appendix B.4): guards against accidents, not against adversaries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tempo::train {

/// Of "123456789": 0xE3069283.
uint32_t crc32c(std::span<const std::byte> bytes) noexcept;

/// The rotated and shifted form in which TFRecord files store it, since a checksum of data that contains its own
/// checksum would be weak.
uint32_t masked_crc32c(std::span<const std::byte> bytes) noexcept;

}  // namespace tempo::train
