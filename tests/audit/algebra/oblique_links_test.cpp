#include "audit/algebra/oblique_links.h"

#include <gtest/gtest.h>

#include "audit/algebra/matching.h"

namespace tempo::audit {
namespace oblique_links_test {

/// Invertible, and far from orthogonal.
Matrix some_key(int64_t size, Random& random) {
  return random_orthogonal(size, random) * Vector::LinSpaced(size, 0.5, 3).asDiagonal() *
         random_orthogonal(size, random);
}
Matrix covariance(int64_t size, Random& random) {
  const Matrix a = random_gaussian(4 * size, size, random);
  return a.transpose() * a;
}
double column_cosine(const Matrix& a, const Matrix& b) { return median_row_cosine(a.transpose(), b.transpose()); }

TEST(ObliqueLinks, EigenvectorsOfAFormAndADualArePlain) {
  Random random(3);
  const Matrix c = covariance(6, random), d = covariance(6, random);
  const Matrix k1 = some_key(6, random), k2 = some_key(6, random);
  const auto seen = [&](const Matrix& k) {
    return form_and_dual(k.transpose() * c * k, k.inverse() * d * k.inverse().transpose()).vectors();
  };
  EXPECT_GT(column_cosine(k1 * seen(k1), k2 * seen(k2)), 0.999999);
  EXPECT_LT(column_cosine(seen(k1), seen(k2)), 0.9);
}

TEST(ObliqueLinks, CanonicalVectorsArePlain) {
  Random random(4);
  const Matrix c = covariance(7, random), d = covariance(4, random), cross = random_gaussian(7, 4, random);
  const Matrix m1 = some_key(7, random), m2 = some_key(7, random), q1 = some_key(4, random), q2 = some_key(4, random);
  const auto seen = [&](const Matrix& m, const Matrix& q) {
    return canonical_vectors(m.transpose() * c * m, m.transpose() * cross * q, q.transpose() * d * q);
  };
  EXPECT_GT(column_cosine(m1 * seen(m1, q1).left.vectors(), m2 * seen(m2, q2).left.vectors()), 0.999999);
  EXPECT_GT(column_cosine(q1 * seen(m1, q1).right.vectors(), q2 * seen(m2, q2).right.vectors()), 0.999999);
}

TEST(ObliqueLinks, SeveralMatricesGiveTheChangeOfKeysAndOneDoesNot) {
  Random random(5);
  const Matrix m1 = some_key(5, random), m2 = some_key(5, random), r1 = some_key(4, random), r2 = some_key(4, random);
  std::vector<Matrix> before, after;
  for (int k = 0; k < 3; ++k) {
    const Matrix w = random_gaussian(5, 4, random);
    before.push_back(m1.inverse() * w * r1);
    after.push_back(m2.inverse() * w * r2);
  }
  const Matrix change = r1.inverse() * r2;
  const KeyChange found = key_change(before, after);
  EXPECT_GT(std::abs((found.right.array() * change.array()).sum()) / (found.right.norm() * change.norm()), 0.999999);
  const KeyChange open = key_change({before[0]}, {after[0]});
  EXPECT_LT(std::abs((open.right.array() * change.array()).sum()) / (open.right.norm() * change.norm()), 0.99);
  EXPECT_EQ(key_change({Matrix::Ones(64, 64)}, {Matrix::Ones(64, 64)}).right.size(), 0);  // too many unknowns
}

TEST(ObliqueLinks, ZeroPairsAreFoundUnderAnyKeys) {
  Random random(6);
  const Matrix left = some_key(5, random), right = some_key(5, random);
  std::vector<Matrix> zero, other;
  for (int t = 0; t < 24; ++t) {
    Matrix a = random_gaussian(5, 5, random);
    other.push_back(left.transpose() * a * right);
    a.diagonal().setZero();
    zero.push_back(left.transpose() * a * right);
  }
  const ZeroPairs found = zero_pairs(zero, 3e8, random);
  ASSERT_EQ(found.rows.rows(), 5);
  EXPECT_LT(found.residual, 1e-4);
  EXPECT_GT(match_directions(found.rows * left.transpose(), Matrix::Identity(5, 5)).median_cosine, 0.999);
  EXPECT_GT(zero_pairs(other, 3e7, random).residual, 1e-3);
}

}  // namespace oblique_links_test
}  // namespace tempo::audit
