/// float32 to bfloat16 and back, for activations that wait for the backward pass. Plain loops for reference, one table
/// per instruction set.
#pragma once

#include <cstdint>

namespace tempo::nn::kernels {

struct NarrowKernels {
  /// to[i] = the bfloat16 nearest to from[i], ties to even; what is not a number stays so.
  void (*narrow)(const float* from, int64_t count, uint16_t* to) noexcept;
  /// Exact.
  void (*widen)(const uint16_t* from, int64_t count, float* to) noexcept;
};

const NarrowKernels& reference_narrow_kernels();
/// Of one Highway target that this machine supports; 0 is the reference.
const NarrowKernels& narrow_kernels(int64_t target);
/// The best of this machine.
const NarrowKernels& best_narrow_kernels();

}  // namespace tempo::nn::kernels
