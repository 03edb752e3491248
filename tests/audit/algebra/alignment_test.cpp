#include "audit/algebra/alignment.h"

#include <gtest/gtest.h>

#include "audit/algebra/matching.h"

namespace tempo::audit {
namespace alignment_test {

struct Victim {
  std::vector<Matrix> from, to;
  Matrix left, right;
};

/// Random taps under random keys, in float32 as they would be recorded, and changed by `drift` of their size.
Victim make_victim(int64_t m, int64_t d, int taps, double drift, uint64_t seed) {
  Random random(seed);
  Victim v{.from = {}, .to = {}, .left = random_orthogonal(m, random), .right = random_orthogonal(d, random)};
  for (int k = 0; k < taps; ++k) {
    const Matrix plain = random_gaussian(m, d, random).cast<float>().cast<double>();
    const Matrix later = plain + drift * random_gaussian(m, d, random);
    v.from.push_back(plain);
    v.to.push_back((v.left.transpose() * later * v.right).cast<float>().cast<double>());
  }
  return v;
}

double worst_residual(const Victim& v, const KeyPair& keys) {
  double sum = 0, norm = 0;
  for (size_t k = 0; k < v.from.size(); ++k) {
    sum += (v.to[k] - keys.left.transpose() * v.from[k] * keys.right).squaredNorm();
    norm += v.to[k].squaredNorm();
  }
  return std::sqrt(sum / norm);
}

/// |cos| of the two as vectors: 1 if the key was found, up to its sign.
double agreement(const Matrix& key, const Matrix& truth) {
  return std::abs(key.cwiseProduct(truth).sum()) / static_cast<double>(truth.rows());
}

TEST(AlignOrthogonal, SolvesExactDataOfAnyShape) {
  const std::vector<std::array<int64_t, 2>> shapes = {{1, 1},  {1, 7},   {7, 1},   {8, 8},  {12, 8},
                                                      {8, 12}, {64, 16}, {16, 64}, {64, 64}};
  for (const auto& [m, d] : shapes)
    for (const int taps : {1, 2, 9}) {
      SCOPED_TRACE(::testing::Message() << m << "x" << d << " taps " << taps);
      const Victim v = make_victim(m, d, taps, 0, 5);
      const KeyPair keys = align_orthogonal(v.from, v.to);
      EXPECT_LT(keys.residual, 1e-3);
      EXPECT_NEAR(keys.residual, worst_residual(v, keys), 1e-6);
      EXPECT_LT((keys.left.transpose() * keys.left - Matrix::Identity(m, m)).norm(), 1e-9);
      EXPECT_LT((keys.right.transpose() * keys.right - Matrix::Identity(d, d)).norm(), 1e-9);
    }
}

TEST(AlignOrthogonal, FindsTheKeysFromSeveralTaps) {
  for (const auto& [m, d] : std::vector<std::array<int64_t, 2>>{{16, 16}, {24, 64}, {64, 24}}) {
    const Victim v = make_victim(m, d, 9, 0, 6);
    const KeyPair keys = align_orthogonal(v.from, v.to);
    EXPECT_GT(agreement(keys.left, v.left), 0.9999);
    EXPECT_GT(agreement(keys.right, v.right), 0.9999);
  }
}

TEST(AlignOrthogonal, WithOneTapTheSignsOfTheKeysStayUnknown) {
  const Victim v = make_victim(32, 32, 1, 0, 7);
  const KeyPair keys = align_orthogonal(v.from, v.to);
  EXPECT_LT(keys.residual, 1e-3);
  EXPECT_LT(agreement(keys.right, v.right), 0.9);
}

TEST(AlignOrthogonal, FindsTheKeysAlthoughTheWeightChanged) {
  const Victim v = make_victim(32, 48, 9, 0.1, 8);
  const KeyPair keys = align_orthogonal(v.from, v.to);
  EXPECT_LT(keys.residual, 0.11);
  EXPECT_GT(agreement(keys.left, v.left), 0.99);
  EXPECT_GT(agreement(keys.right, v.right), 0.99);
}

TEST(AlignOrthogonal, UnrelatedTapsDoNotAlign) {
  const Victim v = make_victim(24, 24, 9, 0, 9), other = make_victim(24, 24, 9, 0, 10);
  const KeyPair keys = align_orthogonal(v.from, other.to);
  EXPECT_GT(keys.residual, 0.8);
  EXPECT_LT(agreement(keys.right, other.right), 0.2);
}

TEST(AlignOrthogonal, EmptyAndZeroTapsGiveAResidualOfOne) {
  EXPECT_EQ(align_orthogonal({}, {}).residual, 1);
  const Matrix zero = Matrix::Zero(3, 4), one = Matrix::Ones(3, 4);
  for (const auto& [a, b] : std::vector<std::pair<Matrix, Matrix>>{{zero, zero}, {zero, one}, {one, zero}}) {
    const KeyPair keys = align_orthogonal({a, a}, {b, b});
    EXPECT_EQ(keys.residual, 1);
    EXPECT_EQ(keys.left.rows(), 3);
    EXPECT_EQ(keys.right.rows(), 4);
  }
  EXPECT_LT(align_orthogonal({one, one}, {one, one}).residual, 1e-6);  // rank one: most of the keys is free
}

}  // namespace alignment_test
}  // namespace tempo::audit
