/// The inner loops of projection.h, one table for each instruction set. The kernels take pointers and sizes, and
/// neither allocate nor check.
#pragma once

#include <cstdint>

namespace tempo::integrity {

constexpr int kVectors = 4;    ///< largest number of vectors of one call
constexpr int kColumns = 512;  ///< largest number of columns of one strip: a run of memory that is worth fetching

template <typename T>
struct ProjectionKernels {
  /// planes[v * pitch + r] = x[r, :] . vectors[v, :] for `rows` rows and `count` <= kVectors vectors.
  /// @returns the sum of squares of x if `with_energy`, else 0.
  T(*project)
  (const T* x, int64_t rows, int64_t channels, const T* vectors, int count, T* planes, int64_t pitch,
   bool with_energy) noexcept;
  /// sums[v * kColumns + c] = sum over r of planes[v * pitch + r] * x[r * channels + c] for `columns` <= kColumns, with
  /// the rows in order.
  void (*accumulate)(const T* x, int64_t rows, int64_t channels, int64_t columns, const T* planes, int64_t pitch,
                     int count, T* sums) noexcept;
  T (*sum_of_squares)(const T* x, int64_t count) noexcept;
};

struct ProjectionKernelSet {
  ProjectionKernels<float> f32;
  ProjectionKernels<double> f64;
};

/// The reference: plain loops that the vector kernels are compared with.
const ProjectionKernelSet& reference_projection_kernels();
/// The table of one Highway target that this machine supports; 0 is the reference.
const ProjectionKernelSet& projection_kernels(int64_t target);
/// The table of the best instruction set of this machine.
const ProjectionKernelSet& best_projection_kernels();

}  // namespace tempo::integrity
