/// Matching what was recovered with what it stands for, and the level of chance of doing so.
#pragma once

#include <functional>
#include <vector>

#include "audit/attack.h"
#include "audit/operand.h"
#include "base/median.h"

namespace tempo::audit {

/// The Hungarian method (dlib): for every row of `gain` the column it is assigned, so that the sum is largest.
/// Square or not; a row without a column gets -1. Entries must be finite; they are resolved to 2^-40 of the largest.
std::vector<int> assign(const Matrix& gain);

/// |cos| between every row of `a` and every row of `b`: [a.rows, b.rows]. Zero rows give 0.
Matrix absolute_cosines(const Matrix& a, const Matrix& b);

using tempo::median;

/// Median |cos| between row i of `a` and row i of `b`; zero rows give 0. At least one row.
double median_row_cosine(const Matrix& a, const Matrix& b);

/// Rows of `recovered` matched with rows of `truth` one to one by the largest sum of |cos|.
struct DirectionMatch {
  std::vector<int> truth_of;  ///< by recovered row
  double median_cosine = 0;   ///< of the matched pairs, absolute
};
DirectionMatch match_directions(const Matrix& recovered, const Matrix& truth);

struct Chance {
  double mean = 0, stddev = 0;
};
/// A finding with its score and level of chance.
Finding scored(int attack, const char* target, const char* measure, double score, const Chance& chance);
/// Mean and standard deviation of `score` over `trials` decoys.
Chance measure_chance(int trials, const std::function<double()>& score);
/// Chance of `match_directions(recovered, .)`: against random orthogonal matrices in place of the truth.
Chance direction_chance(const Matrix& recovered, Random& random, int trials = 20);
/// Chance of placing elements of a random permutation of `size` right: mean 1/size, and its standard deviation.
Chance permutation_chance(int64_t size);

/// Uniformly random orthogonal matrix (QR of a Gaussian one).
Matrix random_orthogonal(int64_t size, Random& random);
Matrix random_gaussian(int64_t rows, int64_t columns, Random& random);

/// |cos| between two tensors of equal shape, as vectors.
double absolute_cosine(const Operand& a, const Operand& b);

}  // namespace tempo::audit
