/// The two passes over activations that verification consists of. Verification reads activations nowhere else, except
/// where blinding computes the same on the way.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace tempo::integrity {

/// planes[v * rows + r] = x[r, :] . vectors[v, :]  for v in 0..count-1: inner products of every row with a few vectors.
/// @param x [rows, channels]. @param vectors [count, channels]. @param planes [count, rows]. All are contiguous.
/// @returns the squared Frobenius norm of x.
/// Sums run in the type of x over as many lanes as a vector has; the norm is summed over blocks of rows in float64.
/// Thread-safe. Cost: one read of x for up to four vectors, further ones read it from cache; 2 rows channels count
/// FLOPs.
template <typename T>
double project(const T* x, int64_t rows, int64_t channels, const T* vectors, int64_t count, T* planes,
               ThreadPool& threads);

/// sums[v, :] += sum over r of planes[v * rows + r] * x[r, :]: the transpose of `project`. Blocks of rows are summed in
/// the type of x, and the blocks in float64. The order does not depend on the threads.
template <typename T>
void accumulate(const T* x, int64_t rows, int64_t channels, const T* planes, int64_t count, double* sums,
                ThreadPool& threads);

}  // namespace tempo::integrity
