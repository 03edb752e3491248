#include "nn/kernels/narrow.h"

#include <bit>

#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/kernels/narrow.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::nn::kernels {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE void narrow_vector(D d, const float* from, uint16_t* to) {
  const hn::Rebind<uint32_t, D> d32;
  const hn::Rebind<uint16_t, D> d16;
  const auto v = hn::LoadU(d, from);
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(hn::Set(d32, 0x7fffu), odd)));
  // A NaN is made quiet instead of rounded, which could carry it into infinity.
  const auto quiet = hn::ShiftRight<16>(hn::Or(bits, hn::Set(d32, 0x400000u)));
  const auto is_nan = hn::RebindMask(d32, hn::IsNaN(v));
  hn::StoreU(hn::TruncateTo(d16, hn::IfThenElse(is_nan, quiet, rounded)), d16, to);
}

template <class D>
HWY_INLINE void widen_vector(D d, const uint16_t* from, float* to) {
  const hn::Rebind<uint32_t, D> d32;
  const hn::Rebind<uint16_t, D> d16;
  hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, from)))), d, to);
}

void narrow(const float* from, int64_t count, uint16_t* to) noexcept {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) narrow_vector(d, from + i, to + i);
  for (; i < count; ++i) narrow_vector(hn::CappedTag<float, 1>(), from + i, to + i);
}

void widen(const uint16_t* from, int64_t count, float* to) noexcept {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) widen_vector(d, from + i, to + i);
  for (; i < count; ++i) widen_vector(hn::CappedTag<float, 1>(), from + i, to + i);
}

const NarrowKernels* kernel_set() {
  static constexpr NarrowKernels kSet = {narrow, widen};
  return &kSet;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tempo::nn::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tempo::nn::kernels {
namespace {

void plain_narrow(const float* from, int64_t count, uint16_t* to) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<uint32_t>(from[i]);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to[i] = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}

void plain_widen(const uint16_t* from, int64_t count, float* to) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = std::bit_cast<float>(uint32_t{from[i]} << 16);
}

}  // namespace

HWY_EXPORT(kernel_set);

const NarrowKernels& reference_narrow_kernels() {
  static constexpr NarrowKernels kSet = {plain_narrow, plain_widen};
  return kSet;
}

const NarrowKernels& narrow_kernels(int64_t target) {
  if (target == 0) return reference_narrow_kernels();
  return *HWY_DISPATCH_TABLE(kernel_set)[dispatch_index(target)]();
}

const NarrowKernels& best_narrow_kernels() {
  static const NarrowKernels& best = *HWY_DYNAMIC_DISPATCH(kernel_set)();
  return best;
}

}  // namespace tempo::nn::kernels
#endif  // HWY_ONCE
