#include "train/formats/crc32c.h"

#include <array>

namespace tempo::train {
namespace {

constexpr std::array<uint32_t, 256> make_table() {
  constexpr uint32_t kReversedPolynomial = 0x82F63B78U;
  std::array<uint32_t, 256> table{};
  for (uint32_t value = 0; value < 256; ++value) {
    uint32_t remainder = value;
    for (int bit = 0; bit < 8; ++bit)
      remainder = (remainder >> 1U) ^ ((remainder & 1U) != 0 ? kReversedPolynomial : 0U);
    table[value] = remainder;
  }
  return table;
}
constexpr auto kTable = make_table();

}  // namespace

uint32_t crc32c(std::span<const std::byte> bytes) noexcept {
  uint32_t crc = ~0U;
  for (const std::byte byte : bytes) crc = (crc >> 8U) ^ kTable[(crc ^ std::to_integer<uint32_t>(byte)) & 0xFFU];
  return ~crc;
}

uint32_t masked_crc32c(std::span<const std::byte> bytes) noexcept {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15U) | (crc << 17U)) + 0xA282EAD8U;
}

}  // namespace tempo::train
