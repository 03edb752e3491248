#include "audit/attacks/pooling.h"

#include <algorithm>
#include <cmath>

#include "audit/algebra/matching.h"
#include "audit/algebra/separation.h"

namespace tempo::audit {
namespace {

/// Multiply-adds of one call of FastICA: about a second on one core.
constexpr double kBudget = 1.2e10;
constexpr double kMostIterations = 100;
constexpr int64_t kPooledSamples = 120'000;

/// One step of FastICA multiplies [n, d] by [d, d] twice.
double cost_of_iteration(double samples, int64_t channels) {
  return 2 * samples * static_cast<double>(channels * channels);
}

/// Where there are many directions, samples within the budget show only the strongly non-Gaussian, which converge soon.
double fewest_iterations(int64_t channels) { return channels > 128 ? 20 : 40; }

/// Number of neighbouring pairs in a tile; 1 for a tile of one position, which is its own sample.
int64_t pairs(const Operand& x) {
  if (x.width > 1) return x.height * (x.width - 1);
  return std::max<int64_t>(x.height - 1, 1);
}

/// Both positions of a pair; equal for a tile of one position. Positions of a tile one wide follow each other too.
std::pair<int64_t, int64_t> positions_of(const Operand& x, int64_t pair) {
  if (x.positions() == 1) return {0, 0};
  if (x.width == 1) return {pair, pair + 1};
  const int64_t first = pair / (x.width - 1) * x.width + pair % (x.width - 1);
  return {first, first + 1};
}

void copy_sample(const Operand& x, int64_t index, Matrix& out, Eigen::Index row) {
  const int64_t count = pairs(x), tile = index / count;
  const auto [first, second] = positions_of(x, index % count);
  for (int64_t c = 0; c < x.channels; ++c)
    out(row, c) = first == second ? x.at(tile, first, c) : x.at(tile, second, c) - x.at(tile, first, c);
}

}  // namespace

int64_t separation_sample_count(const Operand& x) { return x.empty() ? 0 : x.rows * pairs(x); }

Matrix separation_samples(const std::vector<PooledStep>& steps, int64_t most, Random& random, double patience) {
  int64_t total = 0, channels = 0;
  for (const PooledStep& step : steps) {
    total += separation_sample_count(*step.x);
    channels = std::max(channels, step.x->channels);
  }
  if (total == 0) return Matrix::Zero(0, channels);
  const auto affordable =
      static_cast<int64_t>(patience * kBudget / fewest_iterations(channels) / cost_of_iteration(1, channels));
  const int64_t count = std::min({total, most, std::max(affordable, 20 * channels)});

  Matrix samples(count, channels);
  std::uniform_real_distribution<double> jitter;  // or a regular stride could meet one position of every tile
  const double stride = static_cast<double>(total) / static_cast<double>(count);
  int64_t start = 0, filled = 0;
  for (const PooledStep& step : steps) {
    const int64_t end = start + separation_sample_count(*step.x), first = filled;
    for (; filled < count; ++filled) {
      const double place =
          count == total ? static_cast<double>(filled) : (static_cast<double>(filled) + jitter(random)) * stride;
      const auto index = std::clamp(static_cast<int64_t>(place), start, total - 1);
      if (index >= end) break;
      copy_sample(*step.x, index - start, samples, filled);
    }
    if (step.turn.size() != 0)
      samples.middleRows(first, filled - first) = (samples.middleRows(first, filled - first) * step.turn).eval();
    start = end;
  }
  return samples;
}

Matrix channel_directions(const Matrix& samples, Random& random, double patience) {
  const double cost = cost_of_iteration(static_cast<double>(samples.rows()), samples.cols());
  FastIcaOptions options;
  options.iterations = static_cast<int>(
      std::clamp(patience * kBudget / std::max(cost, 1.0), fewest_iterations(samples.cols()), kMostIterations));
  Matrix directions = fast_ica(samples, random, options);
  directions.rowwise().normalize();
  return nearest_orthogonal(directions);
}

double excess_kurtosis(const Matrix& samples) {
  double sum = 0;
  int64_t counted = 0;
  for (Eigen::Index c = 0; c < samples.cols(); ++c) {
    const auto squares = samples.col(c).array().square();
    const double variance = squares.mean();
    if (!(variance > 0)) continue;
    sum += squares.square().mean() / (variance * variance) - 3;
    ++counted;
  }
  return counted > 0 ? sum / static_cast<double>(counted) : 0;
}

// A mixture of K equal shares has the excess kurtosis kappa / K, and the sampling error of a fourth moment falls as
// 1 / sqrt(n): so n grows as (K / kappa)^2. Theory leaves the exponent of the number of directions d between 1 (the
// error of one direction near the answer) and 2 (finding it from a random start); measured it is 1.5. For strongly
// non-Gaussian samples there is a floor of some 20 samples a direction. Calibration, on sums of K exponentials of
// random sign (kappa 3, or 27 with 80% zeros): the sample count, in steps of 1.6, at which the median |cos| passed 0.9
//   d, K, kappa   8,16,3   8,64,3   16,16,3  16,64,27  32,4,3  32,16,3  32,64,27  64,4,3  64,16,27
//   measured      10,300   108,000  20,600   5,000     3,900   66,000   10,100    12,600  3,100
//   this model     8,200   128,000  23,100   4,800     4,700   65,000   13,400    12,700  3,500
double samples_to_win(int64_t channels, double rows_mixed, double kurtosis) {
  const auto d = static_cast<double>(channels);
  const double gaussianity = std::max(rows_mixed, 1.0) / std::max(std::abs(kurtosis), 1e-6);
  return 12.5 * std::pow(d, 1.5) * gaussianity * gaussianity + 20 * d;
}

bool same_key(const Matrix& a, const Matrix& b) { return a.rows() == b.rows() && a.cols() == b.cols() && a == b; }

std::vector<PooledStep> steps_under_first_key(const LayerCase& layer) {
  std::vector<PooledStep> steps;
  for (size_t t = 0; t < layer.view.size(); ++t)
    if (!layer.view[t].x.empty() && same_key(layer.truth[t].inner, layer.truth.front().inner))
      steps.push_back({&layer.view[t].x, {}});
  return steps;
}

PoolingPoints pool_channel_directions(const LayerCase& layer, Random& random) {
  PoolingPoints points;
  const std::vector<PooledStep> all = steps_under_first_key(layer);
  for (size_t count = 1; !all.empty(); count = std::min(2 * count, all.size())) {
    const std::vector<PooledStep> some(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
    const double patience = layer.patience;
    const auto most = static_cast<int64_t>(patience * kPooledSamples);
    const Matrix directions = channel_directions(separation_samples(some, most, random, patience), random, patience);
    if (directions.rows() == 0) return {};
    points.steps.push_back(static_cast<double>(count));
    points.score.push_back(match_directions(directions, layer.truth.front().inner).median_cosine);
    if (count == 1) points.chance = direction_chance(directions, random, 10).mean;
    if (count == all.size()) break;
  }
  return points;
}

}  // namespace tempo::audit
