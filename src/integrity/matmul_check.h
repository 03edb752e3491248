/// Verifies products of two activations (attention), item by item, with a fresh secret vector in each call.
#pragma once

#include <cstdint>

#include "base/csprng.h"
#include "base/thread_pool.h"
#include "integrity/product_check.h"

namespace tempo::integrity {

/// Sizes of c = a b for each item:  a [batch, n, d],  b [batch, d, m],  c [batch, n, m].
struct MatmulShape {
  int64_t batch = 0, n = 0, d = 0, m = 0;
};

/// Checks c = a b:  c rho = a (b rho).
template <typename T>
Residual check_matmul(const MatmulShape& shape, const RoundingModel& rounding, const T* a, const T* b, const T* c,
                      Csprng& secret, ThreadPool& threads);
/// Checks da = dc b^T:  da sigma = dc (b^T sigma).
template <typename T>
Residual check_matmul_da(const MatmulShape& shape, const RoundingModel& rounding, const T* b, const T* dc, const T* da,
                         Csprng& secret, ThreadPool& threads);
/// Checks db = a^T dc:  db tau = a^T (dc tau).
template <typename T>
Residual check_matmul_db(const MatmulShape& shape, const RoundingModel& rounding, const T* a, const T* dc, const T* db,
                         Csprng& secret, ThreadPool& threads);

}  // namespace tempo::integrity
