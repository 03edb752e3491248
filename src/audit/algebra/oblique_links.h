/// Relating keys that are not orthogonal, from what two steps sent under them; and kernels from related steps.
#pragma once

#include <vector>

#include "audit/attack.h"
#include "audit/operand.h"

namespace tempo::audit {

/// Vectors in the coordinates of one step's key, `scale * frame`: they depend on the plain operands alone, up to signs.
/// Two steps with like operands give like vectors of the same number.
struct LinkVectors {
  Matrix scale;  ///< [n, k], from the step's own covariance
  Matrix frame;  ///< [k, k or less], orthonormal columns, the most pronounced first
  [[nodiscard]] Matrix vectors() const { return scale * frame; }
};

/// S with  S S^T = (form + a little)^-1, so that columns of S are orthonormal under `form` [n, n], which turns with a
/// key as K^T C K.
Matrix whitener_of(const Matrix& form);

/// Eigenvectors of  dual form,  where `form` turns as K^T C K and `dual` as K^-1 D K^-T: a similarity, so that its
/// eigenvalues are plain and K carries its eigenvectors to plain ones.
LinkVectors form_and_dual(const Matrix& form, const Matrix& dual);

/// Canonical directions (Hotelling, 1936) of two sets of variables with covariances `left` [n, n], `right` [m, m] and
/// `cross` [n, m]. They are plain whatever invertible key either side has.
struct CanonicalVectors {
  LinkVectors left, right;
};
CanonicalVectors canonical_vectors(const Matrix& left, const Matrix& cross, const Matrix& right);

/// Invertible A [d, d], B [m, m] with  A after_k ~ before_k B  for every k (all [d, m]), up to one common factor: the
/// smallest singular vector of a linear system. One matrix leaves them open; several with common keys determine them.
/// @returns empty matrices where there are more than `kMostUnknowns`.
struct KeyChange {
  static constexpr int64_t kMostUnknowns = 1100;
  Matrix left, right;
};
KeyChange key_change(const std::vector<Matrix>& before, const std::vector<Matrix>& after);

/// Row vectors r for which some column vector q has  r A_t q = 0  for every t. Alternating least squares from random
/// starts, the best and mutually different ones: [k, m], best first. With T matrices [m, m], pairs are determined where
/// T is at least 2 m - 2.
struct ZeroPairs {
  Matrix rows;
  double residual = 1;  ///< median over the rows of |r A_t q|, relative to matrices that are white over all t
  int starts = 0;
};
ZeroPairs zero_pairs(const std::vector<Matrix>& matrices, double operations, Random& random);

}  // namespace tempo::audit
