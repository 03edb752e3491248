#include "train/kernels/update.h"

#include <cmath>

#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "train/kernels/update.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::train::kernels {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// Calls `body(d, i)` for all of [0, count): whole vectors, then single elements.
template <class Body>
HWY_INLINE void for_each_vector(int64_t count, const Body& body) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(d, i);
  for (; i < count; ++i) body(hn::CappedTag<float, 1>(), i);
}

void sgd(const SgdStep& step, const float* HWY_RESTRICT gradient, int64_t count, float* HWY_RESTRICT weight,
         float* HWY_RESTRICT velocity) noexcept {
  for_each_vector(count, [&](auto d, int64_t i) HWY_ATTR {
    const auto w = hn::LoadU(d, weight + i);
    auto v = hn::Mul(hn::LoadU(d, velocity + i), hn::Set(d, step.momentum));
    v = hn::MulAdd(hn::LoadU(d, gradient + i), hn::Set(d, step.gradient_scale), v);
    v = hn::MulAdd(w, hn::Set(d, step.weight_decay), v);
    hn::StoreU(v, d, velocity + i);
    hn::StoreU(hn::NegMulAdd(v, hn::Set(d, step.learning_rate), w), d, weight + i);
  });
}

void adamw(const AdamWStep& step, const float* HWY_RESTRICT gradient, int64_t count, float* HWY_RESTRICT weight,
           float* HWY_RESTRICT mean, float* HWY_RESTRICT square) noexcept {
  for_each_vector(count, [&](auto d, int64_t i) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, gradient + i), hn::Set(d, step.gradient_scale));
    const auto m = hn::MulAdd(g, hn::Set(d, step.rest1), hn::Mul(hn::LoadU(d, mean + i), hn::Set(d, step.beta1)));
    const auto v =
        hn::MulAdd(hn::Mul(g, g), hn::Set(d, step.rest2), hn::Mul(hn::LoadU(d, square + i), hn::Set(d, step.beta2)));
    hn::StoreU(m, d, mean + i);
    hn::StoreU(v, d, square + i);
    const auto under = hn::MulAdd(hn::Sqrt(v), hn::Set(d, step.root), hn::Set(d, step.epsilon));
    const auto kept = hn::Mul(hn::LoadU(d, weight + i), hn::Set(d, step.keep));
    hn::StoreU(hn::Sub(kept, hn::Div(hn::Mul(m, hn::Set(d, step.rate)), under)), d, weight + i);
  });
}

const UpdateKernels* kernel_set() {
  static constexpr UpdateKernels kSet = {sgd, adamw};
  return &kSet;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tempo::train::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tempo::train::kernels {
namespace {

void plain_sgd(const SgdStep& step, const float* gradient, int64_t count, float* weight, float* velocity) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    velocity[i] = step.momentum * velocity[i] + step.gradient_scale * gradient[i] + step.weight_decay * weight[i];
    weight[i] -= step.learning_rate * velocity[i];
  }
}

void plain_adamw(const AdamWStep& step, const float* gradient, int64_t count, float* weight, float* mean,
                 float* square) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i] * step.gradient_scale;
    mean[i] = step.beta1 * mean[i] + step.rest1 * g;
    square[i] = step.beta2 * square[i] + step.rest2 * g * g;
    weight[i] = weight[i] * step.keep - step.rate * mean[i] / (std::sqrt(square[i]) * step.root + step.epsilon);
  }
}

}  // namespace

HWY_EXPORT(kernel_set);

const UpdateKernels& reference_update_kernels() {
  static constexpr UpdateKernels kSet = {plain_sgd, plain_adamw};
  return kSet;
}

const UpdateKernels& update_kernels(int64_t target) {
  if (target == 0) return reference_update_kernels();
  return *HWY_DISPATCH_TABLE(kernel_set)[dispatch_index(target)]();
}

const UpdateKernels& best_update_kernels() {
  static const UpdateKernels& best = *HWY_DYNAMIC_DISPATCH(kernel_set)();
  return best;
}

}  // namespace tempo::train::kernels
#endif  // HWY_ONCE
