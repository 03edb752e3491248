/// Checks the arguments of `blind` and `unblind`, once, because kernels get pointers and sizes only.
#pragma once

#include <cstddef>

#include "obfuscation/blind.h"

namespace tempo::obfuscation {

/// @throws InputError that says what came and what was expected.
template <typename T>
void check_blind(const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, const std::byte* out,
                 const WhileBlinding<T>& also);
template <typename T>
void check_unblind(const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, const std::byte* in,
                   const WhileUnblinding<T>& also);

}  // namespace tempo::obfuscation
