/// Converts float32 to bfloat16 and back, for activations kept for the backward pass. There is one table for each
/// instruction set, and plain loops for reference.
#pragma once

#include <cstdint>

namespace tempo::nn::kernels {

struct NarrowKernels {
  /// to[i] = the bfloat16 nearest to from[i], ties to even. A NaN stays a NaN.
  void (*narrow)(const float* from, int64_t count, uint16_t* to) noexcept;
  /// to[i] = from[i], exactly.
  void (*widen)(const uint16_t* from, int64_t count, float* to) noexcept;
};

const NarrowKernels& reference_narrow_kernels();
/// The table of one Highway target that this machine supports; 0 is the reference.
const NarrowKernels& narrow_kernels(int64_t target);
/// The table of the best instruction set of this machine.
const NarrowKernels& best_narrow_kernels();

}  // namespace tempo::nn::kernels
