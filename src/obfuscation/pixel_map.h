/// Operands that are computed while they are blinded.
#pragma once

#include <cstdint>
#include <functional>

namespace tempo::obfuscation {

/// Computes one pixel of the operand that is blinded in place of x, so that the operand is never in memory as a whole.
/// Fills the pixel's channels, in the type of x; `pixel` counts the pixels of [images, height, width]. Called from any
/// thread, and once for each tile that holds the pixel; it must give the same values each time. Empty: x itself is
/// blinded.
using PixelMap = std::function<void(int64_t pixel, void* channels)>;

}  // namespace tempo::obfuscation
