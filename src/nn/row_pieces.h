/// Divides the rows of an activation into pieces and processes them on LibTorch's threads. All fused layers are built
/// of it.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace tempo::nn {

/// Calls `body(first, count)` for pieces of up to `piece_rows` rows that cover all rows. Pieces do not depend on the
/// number of threads. `body` is called from several threads at once.
template <typename Body>
void for_rows(int64_t rows, int64_t piece_rows, const Body& body) {
  const int64_t pieces = (rows + piece_rows - 1) / piece_rows;
  at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece * piece_rows;
      body(first, std::min(piece_rows, rows - first));
    }
  });
}

/// Computes column sums of several terms in float64. Each piece is summed in float32, and pieces are added in order, so
/// the result does not depend on the number of threads.
/// @param piece_sums called as (first row, number of rows, array of pointers to the sums of each term), with the sums
/// at zero. It may do other work on the rows as well.
template <size_t kTerms, typename PieceSums>
std::array<std::vector<double>, kTerms> sum_rows(int64_t rows, int64_t piece_rows, int64_t channels,
                                                 const PieceSums& piece_sums) {
  const int64_t pieces = (rows + piece_rows - 1) / piece_rows;
  std::vector<float> partial(static_cast<size_t>(pieces * channels) * kTerms);
  const auto of_piece = [&](int64_t piece, size_t term) {
    return partial.data() + (static_cast<size_t>(piece) * kTerms + term) * static_cast<size_t>(channels);
  };
  for_rows(rows, piece_rows, [&](int64_t first, int64_t count) {
    std::array<float*, kTerms> sums;
    for (size_t term = 0; term < kTerms; ++term) sums[term] = of_piece(first / piece_rows, term);
    piece_sums(first, count, sums);
  });
  std::array<std::vector<double>, kTerms> totals;
  for (size_t term = 0; term < kTerms; ++term) {
    totals[term].resize(static_cast<size_t>(channels));
    for (int64_t piece = 0; piece < pieces; ++piece)
      for (size_t c = 0; c < totals[term].size(); ++c) totals[term][c] += static_cast<double>(of_piece(piece, term)[c]);
  }
  return totals;
}

}  // namespace tempo::nn
