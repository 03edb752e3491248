// The kernels once per instruction set of Highway, and the choice between them.
#include "obfuscation/kernels/kernels.h"

#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "obfuscation/kernels/simd.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "obfuscation/kernels/simd_block-inl.h"
#include "obfuscation/kernels/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation::kernels {
namespace HWY_NAMESPACE {

template <typename T>
constexpr Kernels<T> kTable = {gather_block<T>, scatter_block<T>, gather_rows<T>,
                               scatter_rows<T>, mix_wide<T>,      sum_runs<T>};

const KernelSet* kernel_set() {
  static constexpr KernelSet kSet = {kTable<float>, kTable<double>};
  return &kSet;
}

}  // namespace HWY_NAMESPACE
}  // namespace tempo::obfuscation::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <vector>

#include "obfuscation/blind.h"

namespace tempo::obfuscation {
namespace {

/// Not a Highway target and not the reference: whatever is best here.
constexpr int64_t kBestTarget = -1;
thread_local int64_t current_target = kBestTarget;

}  // namespace

std::span<const Isa> supported_isas() {
  static const std::vector<Isa> kIsas = [] {
    std::vector<Isa> isas;
    for (const int64_t target : hwy::SupportedAndGeneratedTargets())  // lowest bit, and so the best, first
      isas.push_back({target, hwy::TargetName(target)});
    isas.push_back({0, "reference"});
    return isas;
  }();
  return kIsas;
}

ScopedIsa::ScopedIsa(Isa isa) : previous_(current_target) { current_target = isa.target; }
ScopedIsa::~ScopedIsa() { current_target = previous_; }

namespace kernels {

HWY_EXPORT(kernel_set);

const KernelSet& simd_kernels(int64_t target) { return *HWY_DISPATCH_TABLE(kernel_set)[dispatch_index(target)](); }

const KernelSet& current_kernels() {
  const int64_t target = current_target == kBestTarget ? supported_isas().front().target : current_target;
  return target == 0 ? reference_kernels() : simd_kernels(target);
}

}  // namespace kernels
}  // namespace tempo::obfuscation
#endif  // HWY_ONCE
