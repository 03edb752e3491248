#include "audit/algebra/matching.h"
#include "audit/algebra/decompositions.h"

#include <dlib/optimization/max_cost_assignment.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tempo::audit {

std::vector<int> assign(const Matrix& gain) {
  const Eigen::Index side = std::max(gain.rows(), gain.cols());
  std::vector<int> result(static_cast<size_t>(gain.rows()), -1);
  if (gain.size() == 0) return result;
  const double largest = std::max(gain.cwiseAbs().maxCoeff(), 1e-300);
  // dlib wants whole numbers and a square; what is filled in gains less than any real entry can.
  constexpr double kResolution = 1099511627776.0;  // 2^40
  dlib::matrix<long long> costs(static_cast<long>(side), static_cast<long>(side));
  for (Eigen::Index i = 0; i < side; ++i)
    for (Eigen::Index j = 0; j < side; ++j) {
      const bool is_real = i < gain.rows() && j < gain.cols();
      costs(static_cast<long>(i), static_cast<long>(j)) =
          is_real ? std::llround(gain(i, j) / largest * kResolution) : std::llround(-2 * kResolution);
    }
  const std::vector<long> columns = dlib::max_cost_assignment(costs);
  for (size_t i = 0; i < result.size(); ++i)
    if (columns[i] < gain.cols()) result[i] = static_cast<int>(columns[i]);
  return result;
}

Matrix absolute_cosines(const Matrix& a, const Matrix& b) {
  const auto normalised = [](const Matrix& m) {
    Matrix out = m;
    for (Eigen::Index i = 0; i < out.rows(); ++i) {
      const double norm = out.row(i).norm();
      if (norm > 0) out.row(i) /= norm;
    }
    return out;
  };
  return (normalised(a) * normalised(b).transpose()).cwiseAbs();
}

double median_row_cosine(const Matrix& a, const Matrix& b) {
  std::vector<double> cosines;
  for (Eigen::Index i = 0; i < a.rows(); ++i) {
    const double norms = a.row(i).norm() * b.row(i).norm();
    cosines.push_back(norms > 0 ? std::abs(a.row(i).dot(b.row(i))) / norms : 0);
  }
  const auto middle = cosines.begin() + static_cast<std::ptrdiff_t>(cosines.size() / 2);
  std::nth_element(cosines.begin(), middle, cosines.end());
  return *middle;
}

DirectionMatch match_directions(const Matrix& recovered, const Matrix& truth) {
  const Matrix cosines = absolute_cosines(recovered, truth);
  DirectionMatch match{.truth_of = assign(cosines)};
  std::vector<double> matched;
  for (size_t i = 0; i < match.truth_of.size(); ++i)
    if (match.truth_of[i] >= 0) matched.push_back(cosines(static_cast<Eigen::Index>(i), match.truth_of[i]));
  match.median_cosine = median(std::move(matched));
  return match;
}

Finding scored(int attack, const char* target, const char* measure, double score, const Chance& chance) {
  Finding finding;
  finding.attack = attack;
  finding.target = target;
  finding.measure = measure;
  finding.score = score;
  finding.chance = chance.mean;
  finding.noise = chance.stddev;
  return finding;
}

Chance measure_chance(int trials, const std::function<double()>& score) {
  std::vector<double> scores;
  for (int i = 0; i < trials; ++i) scores.push_back(score());
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / trials;
  double variance = 0;
  for (const double s : scores) variance += (s - mean) * (s - mean);
  return {mean, trials > 1 ? std::sqrt(variance / (trials - 1)) : 0};
}

Chance direction_chance(const Matrix& recovered, Random& random, int trials) {
  return measure_chance(
      trials, [&] { return match_directions(recovered, random_orthogonal(recovered.cols(), random)).median_cosine; });
}

Chance permutation_chance(int64_t size) {
  // The number of fixed points of a random permutation has mean 1 and variance 1.
  return {1.0 / static_cast<double>(size), 1.0 / static_cast<double>(size)};
}

Matrix random_gaussian(int64_t rows, int64_t columns, Random& random) {
  std::normal_distribution<double> normal;
  return Matrix::NullaryExpr(rows, columns, [&] { return normal(random); });
}

Matrix random_orthogonal(int64_t size, Random& random) {
  return orthogonal_factor(random_gaussian(size, size, random));
}

double absolute_cosine(const Operand& a, const Operand& b) {
  if (a.empty() || !a.same_shape(b)) return 0;
  const Eigen::Map<const Eigen::VectorXf> u(a.values.data(), static_cast<Eigen::Index>(a.values.size()));
  const Eigen::Map<const Eigen::VectorXf> v(b.values.data(), static_cast<Eigen::Index>(b.values.size()));
  const double norms = u.cast<double>().norm() * v.cast<double>().norm();
  return norms > 0 ? std::abs(u.cast<double>().dot(v.cast<double>())) / norms : 0;
}

}  // namespace tempo::audit
