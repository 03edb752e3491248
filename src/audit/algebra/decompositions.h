/// Dense decompositions, by LAPACK or compiled once: Eigen's templates for them take longer to compile than all that
/// uses them. Results are not finite where the matrix is not.
#pragma once

#include "audit/operand.h"

namespace tempo::audit {

struct EigenPairs {
  Vector values;   ///< ascending
  Matrix vectors;  ///< in columns, orthonormal
};
/// Takes a symmetric matrix; only its lower half is read.
EigenPairs symmetric_eigen(const Matrix& symmetric);

/// matrix = u diag(values) v^T, u [m, m], v [n, n], values descending.
struct FullSvd {
  Matrix u;
  Vector values;
  Matrix v;
};
FullSvd full_svd(const Matrix& matrix);

/// u v^T of the thin decomposition: the nearest matrix with orthonormal rows or columns.
Matrix polar_factor(const Matrix& matrix);

/// The inverse of a square matrix; not finite where there is none.
Matrix inverse_of(const Matrix& matrix);

/// Whether a square matrix has an inverse, by its rank with full pivoting.
bool is_invertible(const Matrix& matrix);

/// x that makes |a x - b| least, by a pivoted QR.
Matrix least_squares(const Matrix& a, const Matrix& b);
/// x of  symmetric x = b, positive semi-definite; not finite where it is singular.
Matrix solve_symmetric(const Matrix& symmetric, const Matrix& b);

/// Uniformly random over orthogonal matrices if `gaussian` has independent normal entries (Mezzadri, 2007).
Matrix orthogonal_factor(const Matrix& gaussian);

/// -1 for what is negative, else 1.
Vector signs(const Vector& v);

}  // namespace tempo::audit
