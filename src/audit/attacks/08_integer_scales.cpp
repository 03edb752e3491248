/// Attack 8: integer scales.
///
/// The attacker has nothing but the view, and knows that the scales of keys are whole numbers from 1 to 16 (Tempo's
/// `positive-integer`, the published scheme's set).
/// A, one sending: if X holds whole numbers, column j of X~ is m_j times whole numbers and row i is l_i times whole
/// numbers. The greatest common divisor of a column is m_j, and of a row after that l_i (Euclid's algorithm; one
/// tolerance for float32).
/// B, one weight sent twice (reuse=none): the sendings are matched as in attack 1 (balancing.h). What is left between
/// matched output channels is r_o : r'_o, a fraction of two such numbers, known up to one factor for all. The factor is
/// found by trying: all fractions must have parts up to 16. The numerator in lowest terms is the guess of r_o. (dY~,
/// sent twice under reuse=fresh, would serve as well; matching its rows is not done here.)
/// Source: this project, after the remark that whole-number coefficients have common divisors.
/// Success: A, share of scales found exactly, among 256 rows with content; where a key mixes rows or channels there is
/// no scale, and a guess is wrong. B, share of scales found up to one common factor (the best one, by an oracle).
/// Chance: guesses drawn from the public set (A) or numerators of random fractions from it (B), scored alike; where the
/// procedure finds no divisor or fraction it guesses like that, too.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "audit/algebra/balancing.h"
#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace integer_scales {
namespace {

constexpr int kNumber = 8;
constexpr const char* kRows = "scales of rows";
constexpr const char* kColumns = "scales of input channels";
constexpr const char* kTwice = "scales of output channels, from one weight sent twice";
constexpr int kLargest = 16;
constexpr int64_t kRowsTried = 256;
constexpr double kExact = 1e-3;  ///< relative; scales are real numbers for some keys
constexpr int kTrials = 50;

double random_scale(Random& random) { return static_cast<double>(1 + random() % kLargest); }

// ---- A: what the attacker does ----

/// Greatest common divisor of numbers that are whole but for rounding; zeros do not count.
class CommonDivisor {
 public:
  void add(double value) {
    double a = std::abs(value), b = divisor_;
    if (a <= kTolerance || failed_) return;
    // X~ of coefficients up to 16 on both sides and bytes is exact in float32; so remainders are sharp.
    while (b > kTolerance) {
      const double rest = std::remainder(a, b);
      a = b;
      b = std::abs(rest);
    }
    divisor_ = a;
    failed_ = divisor_ < 0.5;
  }
  /// A number that the public set of coefficients has, or nothing.
  [[nodiscard]] std::optional<double> coefficient() const {
    const double whole = std::round(divisor_);
    if (failed_ || whole < 1 || whole > kLargest || std::abs(divisor_ - whole) > kTolerance) return std::nullopt;
    return whole;
  }

 private:
  static constexpr double kTolerance = 0.05;
  double divisor_ = 0;
  bool failed_ = false;
};

Operand take_rows(const Operand& x, const std::vector<int64_t>& rows) {
  Operand out(static_cast<int64_t>(rows.size()), x.height, x.width, x.channels);
  const int64_t length = x.positions() * x.channels;
  for (size_t i = 0; i < rows.size(); ++i)
    std::copy_n(x.values.begin() + rows[i] * length, length, out.values.begin() + static_cast<int64_t>(i) * length);
  return out;
}

struct ScaleGuess {
  std::vector<double> rows;  ///< of the rows tried
  std::vector<double> columns;
};

/// `x` holds the rows tried; they are many enough for the columns' divisors too.
ScaleGuess guess_scales(const Operand& x, Random& random) {
  ScaleGuess guess;
  std::vector<CommonDivisor> columns(static_cast<size_t>(x.channels));
  for (int64_t i = 0; i < x.rows; ++i)
    for (int64_t p = 0; p < x.positions(); ++p)
      for (int64_t j = 0; j < x.channels; ++j) columns[static_cast<size_t>(j)].add(x.at(i, p, j));
  std::vector<double> divisor;
  for (const CommonDivisor& column : columns) {
    divisor.push_back(column.coefficient().value_or(1));
    guess.columns.push_back(column.coefficient().value_or(random_scale(random)));
  }
  for (int64_t i = 0; i < x.rows; ++i) {
    CommonDivisor row;
    for (int64_t p = 0; p < x.positions(); ++p)
      for (int64_t j = 0; j < x.channels; ++j) row.add(x.at(i, p, j) / divisor[static_cast<size_t>(j)]);
    guess.rows.push_back(row.coefficient().value_or(random_scale(random)));
  }
  return guess;
}

// ---- A: scoring ----

/// Rows in a random space of few dimensions, to find candidates cheaply.
Matrix sketch(const Operand& x, const Matrix& projection) {
  Matrix out = Matrix::Zero(x.rows, projection.cols());
  for (int64_t p = 0; p < x.positions(); ++p)
    out += x.at_position(p) * projection.middleRows(p * x.channels, x.channels);
  return out;
}

/// |L_ij| of the one row of X that each row is made of; 0 where there is none: `unmixed` is L X, some rows of it.
std::vector<double> true_row_scales(const Matrix& unmixed, const Operand& plain, Random& random) {
  constexpr double kParallel = 0.999;
  constexpr int kDimensions = 16;
  const Matrix projection = random_gaussian(unmixed.cols(), kDimensions, random);
  const Matrix cosines = absolute_cosines(unmixed * projection, sketch(plain, projection));
  std::vector<double> scales(static_cast<size_t>(unmixed.rows()), 0.0);
  for (Eigen::Index i = 0; i < unmixed.rows(); ++i) {
    Eigen::Index best = 0;
    cosines.row(i).maxCoeff(&best);
    const Vector candidate = take_rows(plain, {best}).by_row().row(0).transpose();
    const double norm = unmixed.row(i).norm(), plain_norm = candidate.norm();
    if (!(norm > 0) || !(plain_norm > 0)) continue;
    if (std::abs(unmixed.row(i).dot(candidate)) > kParallel * norm * plain_norm)
      scales[static_cast<size_t>(i)] = norm / plain_norm;
  }
  return scales;
}

/// |key(i, j)| of the one channel i in each blinded channel j; 0 where several are mixed.
std::vector<double> true_column_scales(const Matrix& key) {
  std::vector<double> scales;
  for (Eigen::Index j = 0; j < key.cols(); ++j) {
    const double norm = key.col(j).norm(), largest = key.col(j).cwiseAbs().maxCoeff();
    scales.push_back(largest > 0.999 * norm ? norm : 0);
  }
  return scales;
}

double share_exact(const std::vector<double>& guess, const std::vector<double>& truth) {
  int right = 0;
  for (size_t i = 0; i < truth.size(); ++i) right += std::abs(guess[i] - truth[i]) < kExact * truth[i] ? 1 : 0;
  return truth.empty() ? 0 : static_cast<double>(right) / static_cast<double>(truth.size());
}

Finding exact_finding(const char* target, const std::vector<double>& guess, const std::vector<double>& truth,
                      Random& random) {
  const Chance chance = measure_chance(kTrials, [&] {
    std::vector<double> drawn(truth.size());
    for (double& scale : drawn) scale = random_scale(random);
    return share_exact(drawn, truth);
  });
  return scored(kNumber, target, "share of scales found exactly", share_exact(guess, truth), chance);
}

/// Rows spread over X~ that are not all zero: a row of zeros has no scale that matters.
std::vector<int64_t> rows_with_content(const Operand& x) {
  std::vector<int64_t> filled, some;
  const int64_t length = x.positions() * x.channels;
  for (int64_t i = 0; i < x.rows; ++i) {
    const auto begin = x.values.begin() + i * length;
    if (std::any_of(begin, begin + length, [](float v) { return v != 0; })) filled.push_back(i);
  }
  const auto size = static_cast<int64_t>(filled.size()), count = std::min(size, kRowsTried);
  for (int64_t i = 0; i < count; ++i) some.push_back(filled[static_cast<size_t>(i * size / count)]);
  return some;
}

void from_one_sending(const LayerCase& layer, Random& random, std::vector<Finding>& findings) {
  const Operand& x = layer.view.front().x;
  const StepTruth& truth = layer.truth.front();
  const std::vector<int64_t> rows = x.empty() ? std::vector<int64_t>() : rows_with_content(x);
  if (rows.empty() || truth.x.empty() || truth.inner.size() == 0) {
    for (const char* target : {kRows, kColumns})
      findings.push_back(not_applicable(kNumber, target, "no activations were recorded"));
    return;
  }
  const Operand some = take_rows(x, rows);
  const ScaleGuess guess = guess_scales(some, random);
  const Matrix unmixed = transform({}, some, inverse_of(truth.inner)).by_row();
  findings.push_back(exact_finding(kRows, guess.rows, true_row_scales(unmixed, truth.x, random), random));
  findings.push_back(exact_finding(kColumns, guess.columns, true_column_scales(truth.inner), random));
}

// ---- B: what the attacker does ----

struct Fraction {
  int numerator, denominator;
};

/// Fractions of two coefficients in lowest terms, by value.
const std::vector<Fraction>& fractions() {
  static const std::vector<Fraction> all = [] {
    std::vector<Fraction> list;
    for (int n = 1; n <= kLargest; ++n)
      for (int d = 1; d <= kLargest; ++d)
        if (std::gcd(n, d) == 1) list.push_back({n, d});
    std::sort(list.begin(), list.end(),
              [](Fraction a, Fraction b) { return a.numerator * b.denominator < b.numerator * a.denominator; });
    return list;
  }();
  return all;
}

/// Neighbours in the list differ by 1/256 of their value and more, so what is not such a fraction rarely passes.
std::optional<Fraction> as_fraction(double value) {
  constexpr double kTolerance = 1e-5;
  const auto& all = fractions();
  const auto at = std::lower_bound(all.begin(), all.end(), value * (1 - kTolerance),
                                   [](Fraction f, double v) { return f.numerator < v * f.denominator; });
  if (at == all.end() || at->numerator > value * (1 + kTolerance) * at->denominator) return std::nullopt;
  return *at;
}

/// r_o : r'_o of all output channels up to one factor, by channel of the first sending; 0 where it is unknown.
std::vector<double> channel_ratios(const Operand& first, const Operand& second) {
  const ChannelMatch match = match_channels(balance(first), balance(second));
  const Matrix a = channel_energies(first), b = channel_energies(second);
  const Vector content = a.colwise().sum().transpose();
  std::vector<double> ratios;
  for (Eigen::Index o = 0; o < a.rows(); ++o) {
    double sum = 0;
    int count = 0;
    bool is_known = true;
    for (Eigen::Index c = 0; c < a.cols(); ++c) {
      const double ours = a(o, c),
                   theirs = b(match.rows[static_cast<size_t>(o)], match.columns[static_cast<size_t>(c)]);
      if (!(content[c] > 0)) continue;
      ++count;
      // The mean must be over the same inputs for every output, or it is no ratio.
      is_known = is_known && ours > 0 && theirs > 0;
      if (is_known) sum += 0.5 * std::log(ours / theirs);
    }
    ratios.push_back(is_known && count > 0 ? std::exp(sum / count) : 0);
  }
  return ratios;
}

/// The numerators that explain the ratios best, or nothing if no common factor makes nine in ten of them fractions.
std::vector<std::optional<double>> numerators(const std::vector<double>& ratios) {
  std::vector<std::optional<double>> best(ratios.size());
  const auto known = std::count_if(ratios.begin(), ratios.end(), [](double r) { return r > 0; });
  const auto anchor = std::find_if(ratios.begin(), ratios.end(), [](double r) { return r > 0; });
  if (known < 2) return best;
  double best_likelihood = -1e300;
  for (const Fraction& tried : fractions()) {
    std::vector<std::optional<double>> guess(ratios.size());
    double likelihood = 0;
    int explained = 0;
    for (size_t i = 0; i < ratios.size(); ++i) {
      const auto fraction = as_fraction(ratios[i] / *anchor * tried.numerator / tried.denominator);
      if (!fraction) continue;
      guess[i] = fraction->numerator;
      // So many pairs of coefficients have this fraction.
      likelihood += std::log(kLargest / std::max(fraction->numerator, fraction->denominator));
      ++explained;
    }
    likelihood += explained * 100.0;
    if (explained * 10 >= known * 9 && likelihood > best_likelihood) {
      best_likelihood = likelihood;
      best = std::move(guess);
    }
  }
  return best;
}

double random_numerator(Random& random) {
  const auto a = static_cast<int>(random_scale(random)), b = static_cast<int>(random_scale(random));
  return a / std::gcd(a, b);
}

std::vector<double> guess_from_two_sendings(const Operand& first, const Operand& second, Random& random) {
  std::vector<double> guess;
  for (const auto& numerator : numerators(channel_ratios(first, second)))
    guess.push_back(numerator.value_or(random_numerator(random)));
  return guess;
}

// ---- B: scoring ----

double share_up_to_a_factor(const std::vector<double>& guess, const std::vector<double>& truth) {
  double best = 0;
  for (size_t anchor = 0; anchor < truth.size(); ++anchor) {
    const double factor = truth[anchor] / guess[anchor];
    std::vector<double> scaled = guess;
    for (double& scale : scaled) scale *= factor;
    best = std::max(best, share_exact(scaled, truth));
  }
  return best;
}

Finding from_two_sendings(const LayerCase& layer, Random& random) {
  const StepView& view = layer.view.front();
  const Matrix& right = layer.truth.front().right;
  if (view.w.empty() || !view.w.same_shape(view.w_again) || right.size() == 0)
    return not_applicable(kNumber, kTwice, "no weight was sent twice");
  if (view.w.rows < 2) return not_applicable(kNumber, kTwice, "one channel has no scale relative to others");
  const std::vector<double> truth = true_column_scales(right);
  const std::vector<double> guess = guess_from_two_sendings(view.w, view.w_again, random);
  const Chance chance = measure_chance(kTrials, [&] {
    std::vector<double> drawn(truth.size());
    for (double& scale : drawn) scale = random_numerator(random);
    return share_up_to_a_factor(drawn, truth);
  });
  return scored(kNumber, kTwice, "share of scales found, up to one common factor", share_up_to_a_factor(guess, truth),
                chance);
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  std::vector<Finding> findings;
  from_one_sending(layer, random, findings);
  findings.push_back(from_two_sendings(layer, random));
  return findings;
}

}  // namespace
}  // namespace integer_scales

const Attack kIntegerScales{integer_scales::kNumber,
                            "integer scales",
                            "Do whole-number blinding factors give themselves away as common divisors?",
                            "nothing",
                            "Tempo; Euclid's algorithm on the coefficients of the published scheme",
                            integer_scales::run};

}  // namespace tempo::audit
