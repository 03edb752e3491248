// Chooses among the instruction sets.
#include <vector>

#include "base/simd_targets.h"
#include "hwy/highway.h"
#include "obfuscation/blind.h"
#include "obfuscation/kernels/kernels.h"

namespace tempo::obfuscation {
namespace {

/// Neither a Highway target nor the reference: stands for the best instruction set of this machine.
constexpr int64_t kBestTarget = -1;
thread_local int64_t current_target = kBestTarget;

}  // namespace

std::span<const Isa> supported_isas() {
  static const std::vector<Isa> kIsas = [] {
    std::vector<Isa> isas;
    for (const int64_t target : hwy::SupportedAndGeneratedTargets())  // lowest bit first, which is the best
      if ((target & (HWY_SCALAR | HWY_EMU128)) == 0) isas.push_back({target, hwy::TargetName(target)});
    isas.push_back({0, "reference"});
    return isas;
  }();
  return kIsas;
}

ScopedIsa::ScopedIsa(Isa isa) : previous_(current_target) { current_target = isa.target; }
ScopedIsa::~ScopedIsa() { current_target = previous_; }

namespace kernels {

KernelSet current_kernels() {
  const int64_t target = current_target == kBestTarget ? supported_isas().front().target : current_target;
  if (target == 0) return reference_kernels();
  return {&simd_kernels<float>(target), &simd_kernels<double>(target)};
}

}  // namespace kernels
}  // namespace tempo::obfuscation
