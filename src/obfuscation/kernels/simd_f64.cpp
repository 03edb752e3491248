// The double kernels, compiled once for each instruction set of Highway.
#include "base/simd_targets.h"
#include "obfuscation/kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "obfuscation/kernels/simd_f64.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#if !TEMPO_TARGET_HAS_NO_VECTORS
#include "obfuscation/kernels/simd_block-inl.h"
#include "obfuscation/kernels/simd_rows-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation::kernels::HWY_NAMESPACE {

const Kernels<double>* kernels_f64() {
#if TEMPO_TARGET_HAS_NO_VECTORS
  return nullptr;  // the reference takes its place
#else
  static constexpr Kernels<double> kTable = {gather_block<double>,  scatter_block<double>, gather_rows<double>,
                                             scatter_rows<double>,  mix_wide<double>,      sum_runs<double>,
                                             take_products<double>, map_row<double>};
  return &kTable;
#endif
}

}  // namespace tempo::obfuscation::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tempo::obfuscation::kernels {

HWY_EXPORT(kernels_f64);

template <>
const Kernels<double>& simd_kernels(int64_t target) {
  return *HWY_DISPATCH_TABLE(kernels_f64)[dispatch_index(target)]();
}

}  // namespace tempo::obfuscation::kernels
#endif  // HWY_ONCE
