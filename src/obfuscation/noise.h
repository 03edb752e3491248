/// Gaussian noise from a CSPRNG, many values at a time.
#pragma once

#include <cstdint>
#include <span>

#include "base/csprng.h"

namespace tempo::obfuscation {

/// Fills `out` with N(0, deviation^2) by the transform of Box and Muller (1958). Float32 values take 24 random bits for
/// the radius and 24 for the angle, so none is larger than 5.8 deviations; float64 values take 53 each. On one machine
/// the same stream gives the same values; another instruction set may round them otherwise.
void fill_normal(Csprng& random, double deviation, std::span<float> out);
void fill_normal(Csprng& random, double deviation, std::span<double> out);

}  // namespace tempo::obfuscation
