/// Undoing a key of Hadamard blocks, round by round, from products of what was sent under it.
#pragma once

#include "audit/attack.h"
#include "audit/operand.h"

namespace tempo::audit {

/// The last mixing round of a key, with the permutation and scales behind it.
struct PeeledRound {
  Matrix rows;           ///< V [d, d], blocks of 16: V gram V^T is the gram before the round, up to order and signs
  double agreement = 0;  ///< mean over blocks of what the annealing made largest; 0: nothing was peeled
};

/// @param gram  products X~^T X~ [d, d], d a multiple of 16, positive definite
/// With scales of different size before a round of Hadamard blocks, the products of two channels of a block depend on
/// the exclusive or of their places in it, also in the inverse of the gram; products across blocks are smaller. Blocks
/// are found by spectral clustering of squared correlations, places and signs by simulated annealing.
PeeledRound peel_round(const Matrix& gram, double effort, Random& random);

}  // namespace tempo::audit
