#include "integrity/projection.h"

#include <algorithm>
#include <vector>

#include "integrity/projection_kernels.h"

namespace tempo::integrity {
namespace {

constexpr int64_t kProjectedRows = 64;      // rows of a block, which stays in cache while vectors pass over it
constexpr int64_t kAccumulatedRows = 1024;  // rows summed in the type of x before their sum is added in float64

template <typename T>
const ProjectionKernels<T>& kernels() {
  if constexpr (sizeof(T) == sizeof(float))
    return best_projection_kernels().f32;
  else
    return best_projection_kernels().f64;
}

}  // namespace

template <typename T>
double project(const T* x, int64_t rows, int64_t channels, const T* vectors, int64_t count, T* planes,
               ThreadPool& threads) {
  const int64_t blocks = (rows + kProjectedRows - 1) / kProjectedRows;
  std::vector<T> squares(static_cast<size_t>(blocks));
  threads.parallel_for(blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = block * kProjectedRows, some = std::min(kProjectedRows, rows - begin);
      const T* const from = x + begin * channels;
      T& energy = squares[static_cast<size_t>(block)];
      if (count == 0) energy = kernels<T>().sum_of_squares(from, some * channels);
      for (int64_t v = 0; v < count; v += kVectors)
        energy += kernels<T>().project(from, some, channels, vectors + v * channels,
                                       static_cast<int>(std::min<int64_t>(kVectors, count - v)),
                                       planes + v * rows + begin, rows, v == 0);
    }
  });
  double total = 0;
  for (const T square : squares) total += static_cast<double>(square);
  return total;
}

template <typename T>
void accumulate(const T* x, int64_t rows, int64_t channels, const T* planes, int64_t count, double* sums,
                ThreadPool& threads) {
  // The work is cut into strips of columns, so that every sum belongs to one thread and has a fixed order. Strips are
  // as wide as they can be while all threads have work.
  constexpr int64_t kLine = 16;
  const int64_t share = (channels + threads.threads() - 1) / threads.threads();
  const int64_t width = std::min<int64_t>(kColumns, (share + kLine - 1) / kLine * kLine);
  const int64_t strips = (channels + width - 1) / width;
  threads.parallel_for(strips, 1, [&](int64_t first, int64_t last) {
    T block[kVectors * kColumns];
    for (int64_t strip = first; strip < last; ++strip) {
      const int64_t column = strip * width, columns = std::min<int64_t>(width, channels - column);
      for (int64_t begin = 0; begin < rows; begin += kAccumulatedRows) {
        const int64_t some = std::min(kAccumulatedRows, rows - begin);
        for (int64_t v = 0; v < count; v += kVectors) {
          const auto vectors = static_cast<int>(std::min<int64_t>(kVectors, count - v));
          kernels<T>().accumulate(x + begin * channels + column, some, channels, columns, planes + v * rows + begin,
                                  rows, vectors, block);
          for (int j = 0; j < vectors; ++j)
            for (int64_t c = 0; c < columns; ++c)
              sums[(v + j) * channels + column + c] += static_cast<double>(block[j * kColumns + c]);
        }
      }
    }
  });
}

template double project(const float*, int64_t, int64_t, const float*, int64_t, float*, ThreadPool&);
template double project(const double*, int64_t, int64_t, const double*, int64_t, double*, ThreadPool&);
template void accumulate(const float*, int64_t, int64_t, const float*, int64_t, double*, ThreadPool&);
template void accumulate(const double*, int64_t, int64_t, const double*, int64_t, double*, ThreadPool&);

}  // namespace tempo::integrity
