/// Layers made up for the attacks on weight gradients: weights and gradients of many steps under the real keys.
#pragma once

#include <cstdint>

#include "audit/case.h"

namespace tempo::audit::testing {

struct GradientOptions {
  int64_t in = 16, out = 16;
  int steps = 40;
  int steps_per_key = 1000;
  double zeros = 0;          ///< share of entries of a gradient that are zero; the others are normal
  bool before_norm = false;  ///< the gradient of every kernel is orthogonal to the kernel
  const char* protection = "rotated";
  uint64_t seed = 1;
};

/// Kernels of 3x3, whose taps share their keys. View and truth hold W and dW of every step, and the truth the keys.
LayerCase gradient_case(const GradientOptions& options);

}  // namespace tempo::audit::testing
