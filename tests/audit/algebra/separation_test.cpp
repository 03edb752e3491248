// FastICA and joint diagonalisation against answers that are known.
#include "audit/algebra/separation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "audit/algebra/matching.h"

namespace tempo::audit {
namespace separation_test {

enum class Source { kLaplace, kUniform, kGaussian };

Matrix sources(Source kind, Eigen::Index n, Eigen::Index d, Random& random) {
  if (kind == Source::kGaussian) return random_gaussian(n, d, random);
  std::uniform_real_distribution<double> uniform(-1, 1);
  return Matrix::NullaryExpr(n, d, [&] {
    const double u = uniform(random);
    return kind == Source::kUniform ? u : std::copysign(std::log(1 - std::abs(u)), u);
  });
}

double separation_score(Source kind, Contrast contrast, Random& random) {
  const Matrix mixing = random_gaussian(6, 6, random);  // not orthogonal
  const Matrix samples = (sources(kind, 8000, 6, random) * mixing).rowwise() + Eigen::RowVectorXd::Constant(6, 3.0);
  return match_directions(fast_ica(samples, random, {.contrast = contrast}), mixing).median_cosine;
}

TEST(FastIca, FindsTheMixingDirectionsOfNonGaussianSources) {
  Random random(1);
  for (const Contrast contrast : {Contrast::kLogCosh, Contrast::kKurtosis})
    for (const Source kind : {Source::kLaplace, Source::kUniform})
      EXPECT_GT(separation_score(kind, contrast, random), 0.99);
}

TEST(FastIca, FindsNothingInGaussianSources) {
  Random random(2);
  EXPECT_LT(separation_score(Source::kGaussian, Contrast::kLogCosh, random), 0.95);
}

TEST(FastIca, DirectionsHaveTheLengthOfTheSourcesDeviation) {
  Random random(3);
  const Matrix mixing = random_orthogonal(4, random);
  const Matrix found = fast_ica(sources(Source::kUniform, 20000, 4, random) * mixing, random);
  for (Eigen::Index i = 0; i < 4; ++i) EXPECT_NEAR(found.row(i).norm(), std::sqrt(1.0 / 3), 0.02);
}

TEST(FastIca, DropsDirectionsWithoutVariance) {
  Random random(4);
  const Matrix mixing = random_gaussian(3, 8, random);
  const Matrix found = fast_ica(sources(Source::kLaplace, 8000, 3, random) * mixing, random);
  ASSERT_EQ(found.rows(), 3);
  EXPECT_GT(match_directions(found, mixing).median_cosine, 0.99);
}

TEST(FastIca, SurvivesDegenerateSamples) {
  Random random(5);
  EXPECT_EQ(fast_ica(Matrix::Zero(50, 4), random).rows(), 0);
  EXPECT_EQ(fast_ica(Matrix::Ones(1, 4), random).rows(), 0);
  EXPECT_EQ(fast_ica(Matrix::Zero(0, 4), random).rows(), 0);
  EXPECT_EQ(fast_ica(random_gaussian(50, 1, random), random).rows(), 1);
  const Matrix few = fast_ica(random_gaussian(5, 9, random), random);
  EXPECT_EQ(few.rows(), 4);
  EXPECT_TRUE(few.allFinite());
}

TEST(Whiten, GivesIdentityCovarianceAndCanBeUndone) {
  Random random(6);
  const Matrix samples = random_gaussian(400, 5, random) * random_gaussian(5, 5, random);
  const Whitened white = whiten(samples);
  EXPECT_LT((white.samples.transpose() * white.samples / 400 - Matrix::Identity(5, 5)).norm(), 1e-9);
  const Matrix back = (white.samples * white.dewhitener).rowwise() + white.mean;
  EXPECT_LT((back - samples).norm(), 1e-9 * samples.norm());
}

TEST(JointDiagonaliser, FindsTheCommonBasis) {
  Random random(7);
  const Matrix basis = random_orthogonal(9, random);
  std::vector<Matrix> matrices;
  for (int k = 0; k < 4; ++k)
    matrices.emplace_back(basis.transpose() * Vector(random_gaussian(9, 1, random)).asDiagonal() * basis);
  const Matrix v = joint_diagonaliser(matrices);
  EXPECT_LT((v.transpose() * v - Matrix::Identity(9, 9)).norm(), 1e-9);
  EXPECT_GT(match_directions(v.transpose(), basis).median_cosine, 1 - 1e-9);
  for (const Matrix& c : matrices) {
    Matrix rest = v.transpose() * c * v;
    rest.diagonal().setZero();
    EXPECT_LT(rest.norm(), 1e-7);
  }
}

TEST(JointDiagonaliser, ToleratesNoiseAndEqualValuesInOneMatrix) {
  Random random(8);
  const Matrix basis = random_orthogonal(6, random);
  std::vector<Matrix> matrices{Matrix::Identity(6, 6)};  // says nothing
  for (int k = 0; k < 5; ++k)
    matrices.emplace_back(basis.transpose() * Vector(random_gaussian(6, 1, random)).asDiagonal() * basis +
                          1e-3 * random_gaussian(6, 6, random));
  EXPECT_GT(match_directions(joint_diagonaliser(matrices).transpose(), basis).median_cosine, 0.999);
}

TEST(JointDiagonaliser, SurvivesDegenerateInput) {
  EXPECT_EQ(joint_diagonaliser({}).size(), 0);
  EXPECT_EQ(joint_diagonaliser({Matrix::Zero(3, 3)}), Matrix(Matrix::Identity(3, 3)));
  EXPECT_EQ(joint_diagonaliser({Matrix::Ones(1, 1)}), Matrix(Matrix::Identity(1, 1)));
}

TEST(NearestOrthogonal, TheResultIsThePolarFactor) {
  Random random(9);
  const Matrix q = random_orthogonal(5, random), g = random_gaussian(5, 5, random);
  const Matrix stretch = g * g.transpose() + Matrix::Identity(5, 5);
  EXPECT_LT((nearest_orthogonal(stretch * q) - q).norm(), 1e-9);
  const Matrix flat = nearest_orthogonal(random_gaussian(2, 5, random));
  EXPECT_LT((flat * flat.transpose() - Matrix::Identity(2, 2)).norm(), 1e-9);
  EXPECT_EQ(nearest_orthogonal(Matrix()).size(), 0);
}

}  // namespace separation_test
}  // namespace tempo::audit
