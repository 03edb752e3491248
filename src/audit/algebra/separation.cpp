#include "audit/algebra/separation.h"
#include "audit/algebra/decompositions.h"

#include <algorithm>
#include <cmath>

#include "audit/algebra/matching.h"

namespace tempo::audit {
namespace {

using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Samples are visited in blocks: products in float32, twice as fast, and sums over blocks in double.
constexpr Eigen::Index kBlock = 2048;

/// Means over the samples that one step of FastICA needs: E[g(u) z^T] and E[g'(u)], with u = W z.
struct Moments {
  Matrix product;  ///< [k, k]
  Vector slope;    ///< [k]
};

Moments moments(const FloatMatrix& z, const Matrix& unmixing, Contrast contrast) {
  const Eigen::Index n = z.rows(), k = z.cols();
  const FloatMatrix w = unmixing.cast<float>();
  Moments sum{Matrix::Zero(k, k), Vector::Zero(k)};
  FloatMatrix u, product(k, k);
  for (Eigen::Index start = 0; start < n; start += kBlock) {
    const auto block = z.middleRows(start, std::min(kBlock, n - start));
    u.noalias() = block * w.transpose();
    if (contrast == Contrast::kLogCosh) {
      u = u.array().tanh().matrix();
      sum.slope += (1 - u.array().square()).colwise().sum().matrix().transpose().cast<double>();
    } else {
      sum.slope += 3 * u.colwise().squaredNorm().transpose().cast<double>();
      u = u.array().cube().matrix();
    }
    product.noalias() = u.transpose() * block;
    sum.product += product.cast<double>();
  }
  sum.product /= static_cast<double>(n);
  sum.slope /= static_cast<double>(n);
  return sum;
}

/// Symmetric matrices [d, d], entry (i, j) of all of them side by side, so that a rotation of columns stays in cache.
struct Stack {
  Eigen::Index count;
  Matrix values;  ///< [d, d * count]

  explicit Stack(const std::vector<Matrix>& matrices)
      : count(static_cast<Eigen::Index>(matrices.size())),
        values(matrices.front().rows(), matrices.front().rows() * count) {
    for (Eigen::Index k = 0; k < count; ++k) {
      const Matrix& c = matrices[static_cast<size_t>(k)];
      for (Eigen::Index i = 0; i < c.rows(); ++i)
        for (Eigen::Index j = 0; j < c.rows(); ++j) values(i, j * count + k) = 0.5 * (c(i, j) + c(j, i));
    }
  }
  [[nodiscard]] auto entry(Eigen::Index i, Eigen::Index j) const { return values.row(i).segment(j * count, count); }

  void rotate(Eigen::Index p, Eigen::Index q, double cosine, double sine) {
    const Eigen::RowVectorXd row = cosine * values.row(p) + sine * values.row(q);
    values.row(q) = cosine * values.row(q) - sine * values.row(p);
    values.row(p) = row;
    for (Eigen::Index i = 0; i < values.rows(); ++i) {
      double *a = &values(i, p * count), *b = &values(i, q * count);
      for (Eigen::Index k = 0; k < count; ++k) {
        const double turned = cosine * a[k] + sine * b[k];
        b[k] = cosine * b[k] - sine * a[k];
        a[k] = turned;
      }
    }
  }
};

/// Turns rows and columns p and q of every matrix so that they become as diagonal as they can.
/// @returns the sine of the angle.
double jacobi_rotation(Stack& stack, Matrix& v, Eigen::Index p, Eigen::Index q) {
  const Eigen::ArrayXXd difference = stack.entry(p, p) - stack.entry(q, q), twice = 2 * stack.entry(p, q);
  const double on = difference.square().sum() - twice.square().sum(), off = 2 * (difference * twice).sum();
  const double angle = 0.5 * std::atan2(off, on + std::sqrt(on * on + off * off));
  const double sine = std::sin(angle);
  if (std::abs(sine) < 1e-12) return 0;
  stack.rotate(p, q, std::cos(angle), sine);
  v.applyOnTheRight(p, q, Eigen::JacobiRotation<double>(std::cos(angle), -sine));
  return sine;
}

}  // namespace

Whitened whiten(const Matrix& samples, double relative_floor) {
  const Eigen::Index n = samples.rows(), d = samples.cols();
  Whitened out;
  out.mean = n > 0 ? Eigen::RowVectorXd(samples.colwise().mean()) : Eigen::RowVectorXd(Eigen::RowVectorXd::Zero(d));
  const Matrix centred = samples.rowwise() - out.mean;
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Zero(d, d);
  if (n > 0) covariance.selfadjointView<Eigen::Lower>().rankUpdate(centred.transpose(), 1.0 / static_cast<double>(n));
  // Fewer samples than dimensions: what is left of the rest is rounding.
  const Eigen::Index most = std::min(d, std::max<Eigen::Index>(n - 1, 0));
  const EigenPairs eigen = symmetric_eigen(covariance);
  const double largest = d > 0 ? eigen.values(d - 1) : 0;
  Eigen::Index kept = 0;
  while (kept < most && largest > 0 && eigen.values(d - 1 - kept) > relative_floor * largest) ++kept;

  out.whitener = Matrix::Zero(d, kept);
  out.dewhitener = Matrix::Zero(kept, d);
  for (Eigen::Index i = 0; i < kept; ++i) {
    const double deviation = std::sqrt(eigen.values(d - 1 - i));
    out.whitener.col(i) = eigen.vectors.col(d - 1 - i) / deviation;
    out.dewhitener.row(i) = eigen.vectors.col(d - 1 - i).transpose() * deviation;
  }
  out.samples = centred * out.whitener;
  return out;
}

Matrix fast_ica(const Matrix& samples, Random& random, const FastIcaOptions& options) {
  const Whitened white = whiten(samples);
  const Eigen::Index k = white.samples.cols();
  if (k == 0) return Matrix::Zero(0, samples.cols());
  const FloatMatrix z = white.samples.cast<float>();
  Matrix w = random_orthogonal(k, random);
  for (int i = 0; i < options.iterations; ++i) {
    const Moments m = moments(z, w, options.contrast);
    const Matrix next = nearest_orthogonal(m.product - m.slope.asDiagonal() * w);
    const double change = 1 - (next.array() * w.array()).rowwise().sum().abs().minCoeff();
    w = next;
    if (change < options.tolerance) break;
  }
  return w * white.dewhitener;
}

Matrix joint_diagonaliser(std::vector<Matrix> matrices, int sweeps) {
  if (matrices.empty()) return {};
  const Eigen::Index d = matrices.front().rows();
  Stack stack(matrices);
  Matrix v = Matrix::Identity(d, d);
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    double largest = 0;
    for (Eigen::Index p = 0; p + 1 < d; ++p)
      for (Eigen::Index q = p + 1; q < d; ++q) largest = std::max(largest, std::abs(jacobi_rotation(stack, v, p, q)));
    if (largest < 1e-8) break;
  }
  return v;
}

Matrix nearest_orthogonal(const Matrix& matrix) {
  if (matrix.size() == 0) return matrix;
  return polar_factor(matrix);
}

}  // namespace tempo::audit
