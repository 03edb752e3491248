/// An operand that is made while it is blinded.
#pragma once

#include <cstdint>
#include <functional>

namespace tempo::obfuscation {

/// What is blinded in place of x, made of it pixel by pixel: the operand itself is never in memory. Fills the channels,
/// of the type of x, of one pixel of [images, height, width]; from any thread. A pixel that several tiles have is made
/// for each of them, always the same. Empty: x is what is blinded.
using PixelMap = std::function<void(int64_t pixel, void* channels)>;

}  // namespace tempo::obfuscation
