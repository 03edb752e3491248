/// Checks what `Blinder` and `Unblinder` are given, once, because kernels get pointers and sizes only.
#pragma once

#include <cstddef>

#include "obfuscation/blind.h"

namespace tempo::obfuscation {

/// @throws InputError that says what came and what was expected.
void check_blind(const Blinding& how, const PlainOperand& operand, const std::byte* out, const Taps& taps);
void check_unblind(const Blinding& how, const PlainTensor& x, const Taps& taps);
void check_wire_memory(const char* where, ElementType type, const std::byte* wire);

}  // namespace tempo::obfuscation
