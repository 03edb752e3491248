/// Gaussian noise from a CSPRNG, many values at a time.
#pragma once

#include <cstdint>
#include <span>

#include "base/csprng.h"

namespace tempo::obfuscation {

/// Fills `out` with N(0, deviation^2) by the transform of Box and Muller (1958). A float32 value takes 24 random bits
/// for its radius and 24 for its angle, so none is larger than 5.8 deviations; a float64 value takes 53 each. On one
/// machine the same stream gives the same values; another instruction set may round differently.
void fill_normal(Csprng& random, double deviation, std::span<float> out);
void fill_normal(Csprng& random, double deviation, std::span<double> out);

}  // namespace tempo::obfuscation
