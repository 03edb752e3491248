/// What every file of kernels compiled once per instruction set begins with; before Highway's own headers.
#pragma once

#include <cstddef>
#include <cstdint>

// Scalable vectors have no arrays; such machines have NEON or the reference as well. What lies between SSE2, which
// every x86-64 has, and AVX2, which every one with a TEE has, would only be compiled.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_SSSE3 | HWY_SSE4)
#include "hwy/targets.h"

/// Highway's target without vectors. Kernels that have a plain reference leave this target out.
#define TEMPO_TARGET_HAS_NO_VECTORS (HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128)

namespace tempo {

/// Which entry of HWY_DISPATCH_TABLE(..) is that of one Highway target, which this machine must support. Highway's own
/// dispatch is one choice for the whole process; this one is of the call.
inline size_t dispatch_index(int64_t target) {
  hwy::ChosenTarget choice;
  choice.Update(target);
  return choice.GetIndex();
}

}  // namespace tempo
