/// Finding a basis from matrices whose diagonals vanish in it.
#pragma once

#include <vector>

#include "audit/attack.h"
#include "audit/operand.h"

namespace tempo::audit {

struct ZeroDiagonal {
  Matrix directions;    ///< [d, d], orthonormal rows
  double residual = 1;  ///< sqrt(sum of squares on the diagonals / sum of all squares); 0 is exact
  int starts = 0;       ///< that it took
};
struct ZeroDiagonalEffort {
  double operations = 1e10;   ///< multiply-adds, at most
  double good_enough = 1e-3;  ///< residual at which no other start is tried
};
/// Orthogonal V that makes the diagonals of all V C_k V^T vanish as far as it can, for symmetric C_k [d, d]: Jacobi
/// rotations as for joint diagonalisation (Cardoso, Souloumiac, 1996), but to the angles that make diagonals least;
/// several random starts, the best of which counts. The rows of V are determined up to order and sign where there are
/// some more matrices than (d - 1) / 2.
ZeroDiagonal zero_diagonal_basis(const std::vector<Matrix>& matrices, const ZeroDiagonalEffort& effort, Random& random);

}  // namespace tempo::audit
