/// Solving for two secret orthogonal keys from matrices that were sent under them.
#pragma once

#include <vector>

#include "audit/operand.h"

namespace tempo::audit {

/// Orthogonal P [m, m], Q [d, d] such that  to[k] ~ P^T from[k] Q  for every k (all [m, d]).
struct KeyPair {
  Matrix left, right;
  double residual = 1;  ///< sqrt(sum |to - P^T from Q|^2 / sum |to|^2); 0 is exact, about sqrt(2) is nothing
};
/// Singular vectors give P and Q of one matrix up to signs; the signs, and P and Q of near singular values, come from
/// the other matrices, by alternating orthogonal Procrustes problems (Schoenemann, 1966) from that start.
KeyPair align_orthogonal(const std::vector<Matrix>& from, const std::vector<Matrix>& to, int iterations = 100);

}  // namespace tempo::audit
