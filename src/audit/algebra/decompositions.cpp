#include "audit/algebra/decompositions.h"

#include <lapacke.h>
#include <omp.h>

#include <algorithm>
#include <limits>

namespace tempo::audit {
namespace {

/// Matrices as LAPACK has them.
using Columns = Eigen::MatrixXd;

/// LAPACK runs on one thread while it lives: for matrices as small as these, waking others takes longer than the work.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Svd {
  Columns u;
  Vector values;
  Columns v_transposed;
};

/// @param vectors 'A': all of them; 'S': as many as there are values.
Svd svd_of(const Matrix& matrix, char vectors) {
  const OneThread one;
  Columns a = matrix;
  const auto rows = static_cast<lapack_int>(a.rows()), columns = static_cast<lapack_int>(a.cols());
  const lapack_int values = std::min(rows, columns);
  Svd svd{Columns(rows, vectors == 'A' ? rows : values), Vector(values),
          Columns(vectors == 'A' ? columns : values, columns)};
  if (values == 0) return {Columns::Identity(svd.u.rows(), svd.u.cols()), {}, Columns::Identity(columns, columns)};
  const lapack_int info =
      LAPACKE_dgesdd(LAPACK_COL_MAJOR, vectors, rows, columns, a.data(), rows, svd.values.data(), svd.u.data(), rows,
                     svd.v_transposed.data(), static_cast<lapack_int>(svd.v_transposed.rows()));
  if (info != 0) {
    svd.u.fill(kNaN);
    svd.values.fill(kNaN);
    svd.v_transposed.fill(kNaN);
  }
  return svd;
}

}  // namespace

EigenPairs symmetric_eigen(const Matrix& symmetric) {
  const OneThread one;
  Columns vectors = symmetric;
  const auto size = static_cast<lapack_int>(vectors.rows());
  Vector values(size);
  const lapack_int info =
      size == 0 ? 0 : LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', size, vectors.data(), size, values.data());
  if (info != 0) {
    values.fill(kNaN);
    vectors.fill(kNaN);
  }
  return {values, vectors};
}

FullSvd full_svd(const Matrix& matrix) {
  const Svd svd = svd_of(matrix, 'A');
  return {svd.u, svd.values, svd.v_transposed.transpose()};
}

Matrix polar_factor(const Matrix& matrix) {
  const Svd svd = svd_of(matrix, 'S');
  return svd.u * svd.v_transposed;
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
