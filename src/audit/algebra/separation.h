/// Blind source separation: finding the directions in which data are least Gaussian, or jointly diagonal.
#pragma once

#include <vector>

#include "audit/attack.h"
#include "audit/operand.h"

namespace tempo::audit {

/// Samples made white: z = (x - mean) whitener, with identity covariance; directions without variance are dropped.
struct Whitened {
  Matrix samples;     ///< [n, k]
  Matrix whitener;    ///< [d, k]
  Matrix dewhitener;  ///< [k, d]
  Eigen::RowVectorXd mean;
};
Whitened whiten(const Matrix& samples, double relative_floor = 1e-9);

enum class Contrast { kKurtosis, kLogCosh };
struct FastIcaOptions {
  Contrast contrast = Contrast::kLogCosh;
  int iterations = 200;
  double tolerance = 1e-5;
};
/// Symmetric FastICA (Hyvarinen, 1999) on samples [n, d].
/// @returns the mixing directions in the space of the samples: [k, d], row i is what source i adds to a sample. If
/// x = s A with independent non-Gaussian sources s, rows estimate the rows of A up to order, sign and length.
Matrix fast_ica(const Matrix& samples, Random& random, const FastIcaOptions& options = {});

/// Orthogonal V that makes all V^T C_k V as diagonal as it can, by Jacobi rotations (Cardoso, Souloumiac, 1996).
/// Matrices are symmetrised first. @returns V [d, d].
Matrix joint_diagonaliser(std::vector<Matrix> matrices, int sweeps = 60);

/// Orthogonal V nearest to `matrix` in the Frobenius norm.
Matrix nearest_orthogonal(const Matrix& matrix);

}  // namespace tempo::audit
