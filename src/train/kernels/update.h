/// Optimiser steps in one pass over weight, gradient and state: each is read once and written once. float32,
/// contiguous. Pointers and sizes only: no allocation, no checks, no threads; a caller gives each thread elements of
/// its own. Plain loops for reference, one table per instruction set.
#pragma once

#include <cstdint>

namespace tempo::train::kernels {

/// v = momentum v + gradient_scale g + weight_decay w;  w -= learning_rate v.
struct SgdStep {
  float learning_rate = 0, momentum = 0, weight_decay = 0, gradient_scale = 1;
};

/// w *= keep;  m = beta1 m + (1 - beta1) s g;  v = beta2 v + (1 - beta2) (s g)^2;
/// w -= rate m / (sqrt(v) root + epsilon),  with s = gradient_scale. Loshchilov and Hutter, arXiv:1711.05101.
struct AdamWStep {
  float keep = 1;              ///< 1 - learning rate x weight decay
  float beta1 = 0, rest1 = 1;  ///< and 1 - beta1, which float32 would round
  float beta2 = 0, rest2 = 1;
  float gradient_scale = 1;
  float rate = 0;  ///< learning rate over the first moment's bias correction
  float root = 1;  ///< 1 / root of the second moment's
  float epsilon = 0;
};

struct UpdateKernels {
  void (*sgd)(const SgdStep& step, const float* gradient, int64_t count, float* weight, float* velocity) noexcept;
  void (*adamw)(const AdamWStep& step, const float* gradient, int64_t count, float* weight, float* mean,
                float* square) noexcept;
};

const UpdateKernels& reference_update_kernels();
/// The kernels of one Highway target that this machine supports; 0 is the reference.
const UpdateKernels& update_kernels(int64_t target);
/// The best of this machine.
const UpdateKernels& best_update_kernels();

}  // namespace tempo::train::kernels
