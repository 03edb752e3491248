// The float kernels, compiled once for each instruction set of Highway.
#include "base/simd_targets.h"
#include "obfuscation/kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "obfuscation/kernels/simd_f32.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#if !TEMPO_TARGET_HAS_NO_VECTORS
#include "obfuscation/kernels/simd_block-inl.h"
#include "obfuscation/kernels/simd_rows-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation::kernels::HWY_NAMESPACE {

const Kernels<float>* kernels_f32() {
#if TEMPO_TARGET_HAS_NO_VECTORS
  return nullptr;  // the reference takes its place
#else
  static constexpr Kernels<float> kTable = {gather_block<float>,  scatter_block<float>, gather_rows<float>,
                                            scatter_rows<float>,  mix_wide<float>,      sum_runs<float>,
                                            take_products<float>, map_row<float>};
  return &kTable;
#endif
}

}  // namespace tempo::obfuscation::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tempo::obfuscation::kernels {

HWY_EXPORT(kernels_f32);

template <>
const Kernels<float>& simd_kernels(int64_t target) {
  return *HWY_DISPATCH_TABLE(kernels_f32)[dispatch_index(target)]();
}

}  // namespace tempo::obfuscation::kernels
#endif  // HWY_ONCE
