// Scale cancellation.
// What the attacker has: pairs of one tensor and its gradient that a worker holds, W~ and dW~, X~ and dX~, Y~ and dY~.
// Algorithm: gradients are blinded by the inverse transpose of the keys of their tensor. If keys only move and scale
// entries, the scales cancel in the product entry by entry, so  W~ o dW~  holds exactly the numbers of  W o dW  in
// another order. With any keys the sum of these products, the inner product, is plain.
// Source: this project's own analysis; it follows from the equations of reuse=full (docs/blinding.md).
// Success: of the largest tenth of the plain products (256 at most: more lie so close that anything would be found) the
// share that occurs among the blinded ones to 1e-3, each used once; or to 1e-4, 1e-5, 1e-6 where the entries of a large
// layer lie so close that decoys find more than 0.3. One kernel tap or tile position, the central one,
// with all its rows: a sample of rows would not be the same rows on both sides.
// Chance: the same search among products without the pairing: each tensor with its partner shifted, plain or blinded,
// whichever finds more. For inner products: from mean and variance of the product of shuffled tensors.
#include <algorithm>
#include <array>
#include <cmath>

#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace scale_cancellation {
namespace {

constexpr int kNumber = 6;
constexpr double kTolerances[] = {1e-3, 1e-4, 1e-5, 1e-6};
constexpr double kHighChance = 0.3, kInnerTolerance = 1e-2;
constexpr int64_t kFewest = 16;
constexpr size_t kMost = 256;
constexpr int kDecoys = 8;

struct Pair {
  const char* target;
  const Operand& blinded;
  const Operand& blinded_gradient;
  const Operand& plain;
  const Operand& plain_gradient;

  [[nodiscard]] bool complete() const {
    return !blinded.empty() && blinded.same_shape(blinded_gradient) && blinded.same_shape(plain) &&
           blinded.same_shape(plain_gradient);
  }
};

std::array<Pair, 3> pairs_of(const StepView& view, const StepTruth& truth) {
  return {Pair{"numbers of W o dW", view.w, view.dw, truth.w, truth.dw},
          Pair{"numbers of X o dX", view.x, view.dx, truth.x, truth.dx},
          Pair{"numbers of Y o dY", view.y, view.dy, truth.y, truth.dy}};
}

std::vector<float> central_values(const Operand& operand) {
  const int64_t position = operand.height / 2 * operand.width + operand.width / 2;
  std::vector<float> out;
  out.reserve(static_cast<size_t>(operand.rows * operand.channels));
  for (int64_t r = 0; r < operand.rows; ++r)
    for (int64_t c = 0; c < operand.channels; ++c) out.push_back(operand.at(r, position, c));
  return out;
}

/// Magnitudes of products that could be taken for a target.
struct Range {
  double lowest = 0, highest = 0;
};

/// Products entry by entry with magnitudes in a range, in rising order; of b, entry i + shift
/// is taken.
std::vector<double> products(const std::vector<float>& a, const std::vector<float>& b, size_t shift, Range range) {
  std::vector<double> out;
  for (size_t i = 0, j = shift; i < a.size(); ++i, j = j + 1 == b.size() ? 0 : j + 1) {
    const double product = static_cast<double>(a[i]) * static_cast<double>(b[j]);
    if (std::abs(product) >= range.lowest && std::abs(product) <= range.highest) out.push_back(product);
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// The largest plain products, in rising order.
std::vector<double> targets_of(const std::vector<float>& tensor, const std::vector<float>& gradient) {
  std::vector<double> all;
  for (size_t i = 0; i < tensor.size(); ++i)
    if (tensor[i] != 0 && gradient[i] != 0)
      all.push_back(static_cast<double>(tensor[i]) * static_cast<double>(gradient[i]));
  const size_t count = std::min({(tensor.size() + 9) / 10, all.size(), kMost});
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), all.end(),
                    [](double x, double y) { return std::abs(x) > std::abs(y); });
  all.resize(count);
  std::sort(all.begin(), all.end());
  return all;
}

/// Share of the targets found among the candidates, each candidate used once. Going upwards and taking the lowest
/// candidate that is near enough finds as many as any order would.
double share_found(const std::vector<double>& targets, const std::vector<double>& candidates, double tolerance) {
  size_t next = 0, found = 0;
  for (const double target : targets) {
    const double room = tolerance * std::abs(target);
    while (next < candidates.size() && candidates[next] < target - room) ++next;
    if (next < candidates.size() && candidates[next] <= target + room) ++next, ++found;
  }
  return static_cast<double>(found) / static_cast<double>(targets.size());
}

Chance chance_among(const std::vector<double>& targets, const std::vector<std::vector<double>>& from_plain,
                    const std::vector<std::vector<double>>& from_blinded, double tolerance) {
  const auto found_in = [&](const std::vector<std::vector<double>>& decoys) {
    size_t next = 0;
    return measure_chance(static_cast<int>(decoys.size()),
                          [&] { return share_found(targets, decoys[next++], tolerance); });
  };
  const Chance a = found_in(from_plain), b = found_in(from_blinded);
  // A few decoys may all find nothing; that does not make the deviation zero.
  const double least_noise = 0.5 / static_cast<double>(targets.size());
  return {.mean = std::max(a.mean, b.mean), .stddev = std::max({a.stddev, b.stddev, least_noise})};
}

Finding find_products(const Pair& pair, Random& random) {
  if (!pair.complete()) return not_applicable(kNumber, pair.target, "the tensor or its gradient was not sent");
  const int64_t size = pair.plain.rows * pair.plain.channels;
  if (size < kFewest) return not_applicable(kNumber, pair.target, "too few entries to tell a find from an accident");
  const auto plain = central_values(pair.plain), plain_gradient = central_values(pair.plain_gradient);
  const auto blinded = central_values(pair.blinded), blinded_gradient = central_values(pair.blinded_gradient);
  const std::vector<double> targets = targets_of(plain, plain_gradient);
  if (targets.empty()) return not_applicable(kNumber, pair.target, "all plain products are zero");
  Range range{.lowest = std::abs(targets.front()), .highest = 0};
  for (const double target : targets) {
    range.lowest = std::min(range.lowest, std::abs(target) * (1 - 2 * kTolerances[0]));
    range.highest = std::max(range.highest, std::abs(target) * (1 + 2 * kTolerances[0]));
  }

  const std::vector<double> seen = products(blinded, blinded_gradient, 0, range);
  std::uniform_int_distribution<size_t> shift(1, plain.size() - 1);
  std::vector<std::vector<double>> from_plain, from_blinded;
  for (int i = 0; i < kDecoys; ++i) {
    from_plain.push_back(products(plain, plain_gradient, shift(random), range));
    from_blinded.push_back(products(blinded, blinded_gradient, shift(random), range));
  }
  Chance chance;
  double score = 0;
  for (const double tolerance : kTolerances) {
    score = share_found(targets, seen, tolerance);
    chance = chance_among(targets, from_plain, from_blinded, tolerance);
    if (chance.mean <= kHighChance) break;
  }
  return scored(kNumber, pair.target, "share of the largest products found", score, chance);
}

struct Sums {
  double inner = 0, norms = 0;                ///< <a, b> and |a| |b|
  double shuffled_mean = 0, shuffled_sd = 0;  ///< of <a, b> if b is put in random order
};

Sums sums_of(const Operand& a, const Operand& b) {
  double aa = 0, bb = 0, ab = 0, a1 = 0, b1 = 0;
  for (size_t i = 0; i < a.values.size(); ++i) {
    const double u = a.values[i], v = b.values[i];
    aa += u * u, bb += v * v, ab += u * v, a1 += u, b1 += v;
  }
  const auto n = static_cast<double>(a.values.size());
  const double variance = std::max(0.0, aa - a1 * a1 / n) * std::max(0.0, bb - b1 * b1 / n);
  return {ab, std::sqrt(aa * bb), a1 * b1 / n, std::sqrt(variance / std::max(1.0, n - 1))};
}

/// Probability that a normal variable lies within the tolerance of `value`.
double chance_near(double value, double mean, double sd) {
  const double room = kInnerTolerance * std::abs(value);
  if (!(sd > 0)) return std::abs(mean - value) <= room ? 1 : 0;
  const auto below = [&](double x) { return 0.5 * std::erfc((mean - x) / (sd * std::sqrt(2.0))); };
  return below(value + room) - below(value - room);
}

Finding find_inner_products(const std::array<Pair, 3>& pairs) {
  const char* target = "inner products of W and dW, X and dX, Y and dY";
  int looked_at = 0, right = 0;
  double chance = 0;
  for (const Pair& pair : pairs) {
    if (!pair.complete()) continue;
    const Sums plain = sums_of(pair.plain, pair.plain_gradient);
    // Below this it is rounding; a layer followed by a norm has exactly zero there, as scaling W changes nothing.
    if (!(std::abs(plain.inner) > 1e-4 * plain.norms)) continue;
    const double guess = sums_of(pair.blinded, pair.blinded_gradient).inner;
    ++looked_at;
    if (std::abs(guess - plain.inner) <= kInnerTolerance * std::abs(plain.inner)) ++right;
    chance += chance_near(plain.inner, plain.shuffled_mean, plain.shuffled_sd);
  }
  if (looked_at == 0)
    return not_applicable(kNumber, target, "inner products are zero (as before a norm), or operands were not sent");
  chance /= looked_at;
  // The three are nearly one number, so they are counted as one.
  return scored(kNumber, target, "share right to 1%", static_cast<double>(right) / looked_at,
                {.mean = chance, .stddev = std::sqrt(std::max(0.0, chance * (1 - chance)))});
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto pairs = pairs_of(layer.view.front(), layer.truth.front());
  std::vector<Finding> findings;
  for (const Pair& pair : pairs) findings.push_back(find_products(pair, random));
  findings.push_back(find_inner_products(pairs));
  return findings;
}

}  // namespace
}  // namespace scale_cancellation

const Attack kScaleCancellation{
    6,
    "scale cancellation",
    "Do secret scales cancel when a tensor is multiplied by its gradient, so that plain numbers appear?",
    "nothing",
    "own analysis, from the equations of reuse=full (docs/blinding.md)",
    scale_cancellation::run};

}  // namespace tempo::audit
