#include "audit/algebra/balancing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"

namespace tempo::audit {
namespace {

// Energies that cannot be balanced (too many zeros) would drive scales to infinity.
constexpr double kLargestScale = 1e100;

/// scales = sums / (energy times the other side's scales). @returns the largest relative change.
double rescale(const Vector& now, const Vector& sums, Vector& scales) {
  double change = 0;
  for (Eigen::Index i = 0; i < scales.size(); ++i) {
    if (!(now[i] > 0) || !(sums[i] > 0)) continue;
    const double wanted = std::clamp(sums[i] / now[i], 1 / kLargestScale, kLargestScale);
    change = std::max(change, std::abs(wanted / scales[i] - 1));
    scales[i] = wanted;
  }
  return change;
}

// Wide layers have far more values a channel than it takes to tell channels apart.
constexpr int64_t kValuesCompared = 768;

/// Indices of evenly spaced ones out of `size`, so that all taps together have about `kValuesCompared` values.
std::vector<int> compared(Eigen::Index size, size_t taps) {
  const int64_t count = std::clamp<int64_t>(kValuesCompared / static_cast<int64_t>(taps), 1, size);
  std::vector<int> chosen;
  for (int64_t i = 0; i < count; ++i) chosen.push_back(static_cast<int>(i * size / count));
  return chosen;
}

size_t compared_values(const std::vector<Matrix>& taps) { return compared(taps.front().cols(), taps.size()).size(); }

/// Per row: sorted values of every tap, one tap after the other.
Matrix sorted_by_tap(const std::vector<Matrix>& taps) {
  const std::vector<int> chosen = compared(taps.front().cols(), taps.size());
  const auto count = static_cast<Eigen::Index>(chosen.size());
  Matrix out(taps.front().rows(), count * static_cast<Eigen::Index>(taps.size()));
  std::vector<double> values(static_cast<size_t>(taps.front().cols()));
  for (size_t k = 0; k < taps.size(); ++k)
    for (Eigen::Index i = 0; i < out.rows(); ++i) {
      for (size_t j = 0; j < values.size(); ++j) values[j] = taps[k](i, static_cast<Eigen::Index>(j));
      std::sort(values.begin(), values.end());
      for (Eigen::Index j = 0; j < count; ++j)
        out(i, static_cast<Eigen::Index>(k) * count + j) = values[static_cast<size_t>(chosen[static_cast<size_t>(j)])];
    }
  return out;
}

struct Assignment {
  std::vector<int> of;
  double distance = 0;  ///< sum of the squared distances of the pairs
};

/// From products and squared norms of rows: -|a - b|^2 is the gain.
Assignment nearest(const Matrix& products, const Vector& norms_a, const Vector& norms_b) {
  Matrix gain = 2 * products;
  gain.colwise() -= norms_a;
  gain.rowwise() -= norms_b.transpose();
  Assignment result{.of = assign(gain)};
  for (size_t i = 0; i < result.of.size(); ++i) result.distance -= gain(static_cast<Eigen::Index>(i), result.of[i]);
  return result;
}

/// Rows of `a` against rows of `b` where column j of `a` is column order[j] of `b`.
Assignment rows_given_columns(const std::vector<Matrix>& a, const std::vector<Matrix>& b,
                              const std::vector<int>& order) {
  const std::vector<int> ours = compared(a.front().cols(), a.size());
  std::vector<int> theirs;
  for (const int j : ours) theirs.push_back(order[static_cast<size_t>(j)]);
  Matrix products = Matrix::Zero(a.front().rows(), b.front().rows());
  Vector norms_a = Vector::Zero(a.front().rows()), norms_b = Vector::Zero(b.front().rows());
  for (size_t k = 0; k < a.size(); ++k) {
    const Matrix left = a[k](Eigen::all, ours), right = b[k](Eigen::all, theirs);
    products.noalias() += left * right.transpose();
    norms_a += left.rowwise().squaredNorm();
    norms_b += right.rowwise().squaredNorm();
  }
  return nearest(products, norms_a, norms_b);
}

struct Attempt {
  std::vector<int> first, second;
  double distance = 0;
};

/// Begins with the order of the rows, of which sorted values are given; then columns in place, and both again.
Attempt match_from_rows(const Matrix& sorted_a, const Matrix& sorted_b, const std::vector<Matrix>& a,
                        const std::vector<Matrix>& b, const std::vector<Matrix>& transposed_a,
                        const std::vector<Matrix>& transposed_b, int refinements) {
  Attempt attempt;
  attempt.first =
      nearest(sorted_a * sorted_b.transpose(), sorted_a.rowwise().squaredNorm(), sorted_b.rowwise().squaredNorm()).of;
  attempt.second = rows_given_columns(transposed_a, transposed_b, attempt.first).of;
  for (int i = 0; i < refinements; ++i) {
    Assignment rows = rows_given_columns(a, b, attempt.second);
    attempt.distance = rows.distance;
    const bool settled = rows.of == attempt.first;
    attempt.first = std::move(rows.of);
    if (settled) break;
    attempt.second = rows_given_columns(transposed_a, transposed_b, attempt.first).of;
  }
  return attempt;
}

/// Signs s, t with sum s_i t_j agreement(i, j) large: from the leading singular vectors, then by majority in turn.
std::pair<Vector, Vector> agreeing_signs(const Matrix& agreement) {
  // The row with the most to say is a start that cannot be orthogonal to everything.
  Eigen::Index start = 0;
  agreement.rowwise().squaredNorm().maxCoeff(&start);
  Vector t = agreement.row(start).transpose();
  for (int i = 0; i < 50; ++i) {
    const Vector next = agreement.transpose() * (agreement * t);
    const double norm = next.norm();
    if (!(norm > 0)) break;
    t = next / norm;
  }
  t = signs(t);
  Vector s = signs(agreement * t);
  for (int i = 0; i < 50; ++i) {
    const Vector better = signs(agreement.transpose() * s);
    if (better == t) break;
    t = better;
    s = signs(agreement * t);
  }
  return {s, t};
}

}  // namespace

Matrix channel_energies(const Operand& weight) {
  Matrix energy = Matrix::Zero(weight.rows, weight.channels);
  for (int64_t k = 0; k < weight.positions(); ++k) energy += weight.at_position(k).cwiseAbs2();
  return energy;
}

Scales scale_to_sums(const Matrix& energy, const Vector& row_sums, const Vector& column_sums, int iterations) {
  constexpr double kSettled = 1e-13;
  Scales scales{Vector::Ones(energy.rows()), Vector::Ones(energy.cols())};
  for (int i = 0; i < iterations; ++i) {
    const double changed = rescale(energy * scales.columns, row_sums, scales.rows);
    if (rescale(energy.transpose() * scales.rows, column_sums, scales.columns) + changed < kSettled) break;
  }
  return scales;
}

BalancedWeight balance(const Operand& weight) {
  const Matrix energy = channel_energies(weight);
  const auto rows = static_cast<double>(std::max<Eigen::Index>(1, (energy.rowwise().sum().array() > 0).count()));
  const auto columns = static_cast<double>(std::max<Eigen::Index>(1, (energy.colwise().sum().array() > 0).count()));
  const Scales scales =
      scale_to_sums(energy, Vector::Constant(energy.rows(), columns), Vector::Constant(energy.cols(), rows));
  const Vector row_factors = scales.rows.cwiseSqrt(), column_factors = scales.columns.cwiseSqrt();
  BalancedWeight balanced;
  for (int64_t k = 0; k < weight.positions(); ++k) {
    balanced.by_output.emplace_back(row_factors.asDiagonal() * weight.at_position(k).cwiseAbs() *
                                    column_factors.asDiagonal());
    balanced.by_input.emplace_back(balanced.by_output.back().transpose());
  }
  balanced.sorted_outputs = sorted_by_tap(balanced.by_output);
  balanced.sorted_inputs = sorted_by_tap(balanced.by_input);
  return balanced;
}

ChannelMatch match_channels(const BalancedWeight& blinded, const BalancedWeight& reference, int refinements) {
  refinements = std::max(refinements, 1);
  // Whichever side has the longer vectors is matched better at first, so both starts are tried.
  Attempt by_output = match_from_rows(blinded.sorted_outputs, reference.sorted_outputs, blinded.by_output,
                                      reference.by_output, blinded.by_input, reference.by_input, refinements);
  Attempt by_input = match_from_rows(blinded.sorted_inputs, reference.sorted_inputs, blinded.by_input,
                                     reference.by_input, blinded.by_output, reference.by_output, refinements);
  // Distances are means a value: the two starts compare different numbers of them.
  const double output_scale = static_cast<double>(by_output.first.size() * compared_values(blinded.by_output)),
               input_scale = static_cast<double>(by_input.first.size() * compared_values(blinded.by_input));
  if (by_output.distance / output_scale <= by_input.distance / input_scale)
    return {std::move(by_output.first), std::move(by_output.second)};
  return {std::move(by_input.second), std::move(by_input.first)};
}

Operand fit_to_reference(const Operand& blinded, const Operand& reference, const ChannelMatch& match) {
  Operand ordered(reference.rows, reference.height, reference.width, reference.channels);
  for (int64_t o = 0; o < blinded.rows; ++o)
    for (int64_t k = 0; k < blinded.positions(); ++k)
      for (int64_t c = 0; c < blinded.channels; ++c)
        ordered.at(match.rows[static_cast<size_t>(o)], k, match.columns[static_cast<size_t>(c)]) = blinded.at(o, k, c);

  const Matrix wanted = channel_energies(reference);
  Scales scales = scale_to_sums(channel_energies(ordered), wanted.rowwise().sum(), wanted.colwise().sum().transpose());
  scales.rows = scales.rows.cwiseSqrt();
  scales.columns = scales.columns.cwiseSqrt();
  Matrix agreement = Matrix::Zero(wanted.rows(), wanted.cols());
  for (int64_t k = 0; k < ordered.positions(); ++k)
    agreement += reference.at_position(k).cwiseProduct(ordered.at_position(k));
  const auto [row_signs, column_signs] =
      agreeing_signs(scales.rows.asDiagonal() * agreement * scales.columns.asDiagonal());
  const Vector rows = scales.rows.cwiseProduct(row_signs), columns = scales.columns.cwiseProduct(column_signs);
  for (int64_t o = 0; o < ordered.rows; ++o)
    for (int64_t k = 0; k < ordered.positions(); ++k)
      for (int64_t c = 0; c < ordered.channels; ++c) {
        const double value = ordered.at(o, k, c) * rows[o] * columns[c];
        // Scales of weights that cannot be balanced may pass what a float holds.
        ordered.at(o, k, c) = static_cast<float>(std::clamp(value, -1e30, 1e30));
      }
  return ordered;
}

Operand randomly_rotated(const Operand& weight, Random& random) {
  return transform(random_orthogonal(weight.rows, random), weight, random_orthogonal(weight.channels, random));
}

std::vector<int> destinations(const Matrix& key) {
  std::vector<int> to;
  for (Eigen::Index i = 0; i < key.rows(); ++i) {
    Eigen::Index largest = 0;
    key.row(i).cwiseAbs().maxCoeff(&largest);
    to.push_back(static_cast<int>(largest));
  }
  return to;
}

double share_of_channels_right(const std::vector<int>& guess, const std::vector<int>& destination) {
  if (destination.empty()) return 0;
  int right = 0;
  for (size_t i = 0; i < destination.size(); ++i) {
    const auto blinded = static_cast<size_t>(destination[i]);
    right += blinded < guess.size() && guess[blinded] == static_cast<int>(i) ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(destination.size());
}

int last_weight_step(const LayerCase& layer) {
  for (size_t t = layer.view.size(); t-- > 0;)
    if (!layer.view[t].w.empty() && layer.truth[t].inner.size() != 0 && layer.truth[t].right.size() != 0)
      return static_cast<int>(t);
  return -1;
}

Operand plain_weight(const LayerCase& layer, int step) {
  for (int t = step; t >= 0; --t)
    if (!layer.truth[static_cast<size_t>(t)].w.empty()) return layer.truth[static_cast<size_t>(t)].w;
  return {};
}

}  // namespace tempo::audit
