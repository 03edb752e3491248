#include "audit/algebra/decompositions.h"

namespace tempo::audit {

EigenPairs symmetric_eigen(const Matrix& symmetric) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(symmetric);
  return {solver.eigenvalues(), solver.eigenvectors()};
}

FullSvd full_svd(const Matrix& matrix) {
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(matrix, Eigen::ComputeFullU | Eigen::ComputeFullV);
  return {svd.matrixU(), svd.singularValues(), svd.matrixV()};
}

Matrix polar_factor(const Matrix& matrix) {
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(matrix, Eigen::ComputeThinU | Eigen::ComputeThinV);
  return svd.matrixU() * svd.matrixV().transpose();
}

Matrix inverse_of(const Matrix& matrix) { return matrix.inverse(); }

bool is_invertible(const Matrix& matrix) { return Eigen::FullPivLU<Eigen::MatrixXd>(matrix).isInvertible(); }

Matrix least_squares(const Matrix& a, const Matrix& b) { return Eigen::MatrixXd(a).colPivHouseholderQr().solve(b); }

Matrix solve_symmetric(const Matrix& symmetric, const Matrix& b) { return Eigen::MatrixXd(symmetric).ldlt().solve(b); }

Matrix orthogonal_factor(const Matrix& gaussian) {
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(gaussian);
  Matrix q = qr.householderQ();
  // Without the signs of R's diagonal the distribution would not be uniform.
  for (Eigen::Index j = 0; j < q.cols(); ++j)
    if (qr.matrixQR()(j, j) < 0) q.col(j) *= -1;
  return q;
}

Vector signs(const Vector& v) {
  return v.unaryExpr([](double x) { return x < 0 ? -1.0 : 1.0; });
}

}  // namespace tempo::audit
