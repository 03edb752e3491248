/// What a call of `blind` or `unblind` must fulfil. Checked once, here: kernels get pointers and sizes.
#pragma once

#include <cstddef>

#include "obfuscation/blind.h"

namespace tempo::obfuscation {

/// @throws InputError saying what came and what was expected
template <typename T>
void check_blind(const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, const std::byte* out,
                 const WhileBlinding<T>& also);
template <typename T>
void check_unblind(const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, const std::byte* in,
                   const WhileUnblinding<T>& also);

}  // namespace tempo::obfuscation
