// Search for channel keys by their structure.
// What the attacker has: W~, dW~ and products of X~ of every recorded step (evidence.h); how `rotated` makes keys.
// Algorithm: a channel key is two rounds of a permutation, signs and Hadamard blocks of 16, so up to order and sign of
// its rows M = H Q H, Q a signed permutation, H known. Simulated annealing swaps and flips entries of Q. A guess G is
// judged by what can be checked in the plain basis: activations behind ReLU have no negative second moments between
// channels at any two positions; differences of positions are less correlated than what is common to all channels;
// gradients of kernels, after R is undone as in attack 26, are heaviest in the tails. Several starts; each best guess
// is judged again by all positions and all gradients, and the best of these wins.
// Source: simulated annealing (Kirkpatrick et al., 1983); the statistics: own analysis.
// Success: median |cos| of rows of the guess and of M, matched one to one.
// Chance: the same guess against fresh keys of the same structure.
// Known to work: few channels, sparse gradients. The search space grows as d! 2^d.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"
#include "audit/algebra/zero_diagonal.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/evidence.h"
#include "audit/dense_key.h"
#include "base/csprng.h"
#include "obfuscation/protection.h"

namespace tempo::audit {
namespace key_search {
namespace {

constexpr int kNumber = 21;
constexpr const char* kTarget = "M, by the structure of keys";
constexpr int64_t kMostChannels = 64;
constexpr Eigen::Index kSamples = 800;
constexpr double kStartTemperature = 0.03, kEndTemperature = 0.002;
constexpr double kOffDiagonal = 0.3, kNegative = 15;  // weights beside the logarithm of the kurtosis

using FloatMatrix = Eigen::MatrixXf;

/// What is to be checked in the plain basis, turned by the known Hadamard blocks: a guess is then A of  G = A H.
struct Checks {
  FloatMatrix samples;                    ///< gradients of kernels, [n, d]
  std::vector<FloatMatrix> non_negative;  ///< second moments without negative entries
  FloatMatrix differences;                ///< 0x0: none
  Eigen::VectorXf mean;                   ///< a direction whose plain entries all have one sign
};

Matrix hadamard_blocks(int64_t size) {
  obfuscation::KeyRound round;
  round.source.resize(static_cast<size_t>(size));
  std::iota(round.source.begin(), round.source.end(), 0U);
  round.scale.assign(static_cast<size_t>(size), 1.0F);
  round.block = 16;
  return dense_key({.size = static_cast<uint32_t>(size), .rounds = {round}}, obfuscation::Form::kDirect);
}

Matrix symmetric_part(const Matrix& m) { return (m + m.transpose()) / 2; }

/// @param coarse  means over positions and some of the gradients, for the search; else everything.
Checks make_checks(const Evidence& evidence, const Matrix& samples, const Matrix& blocks, bool coarse) {
  Checks checks;
  const Eigen::Index count = coarse ? std::min(kSamples, samples.rows()) : samples.rows();
  Matrix some(count, samples.cols());
  for (Eigen::Index i = 0; i < count; ++i) some.row(i) = samples.row(i * samples.rows() / count);
  checks.samples = (some * blocks).cast<float>();
  const int64_t positions = evidence.positions();
  if (positions < 2) return checks;
  const Eigen::Index d = evidence.channels;
  Matrix same = Matrix::Zero(d, d), apart = Matrix::Zero(d, d);
  const auto add = [&](const Matrix& m) {
    const Matrix turned = blocks * symmetric_part(m) * blocks;
    checks.non_negative.push_back((turned / std::max(turned.norm(), 1e-300)).cast<float>());
  };
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t q = 0; q < positions; ++q) {
      (p == q ? same : apart) += evidence.between(p, q);
      if (!coarse && p < q) add(evidence.between(p, q));
    }
  same = symmetric_part(same) / static_cast<double>(positions);
  apart = symmetric_part(apart) / static_cast<double>(positions * (positions - 1));
  add(same);
  add(apart);
  const Matrix differences = blocks * (same - apart) * blocks;
  checks.differences = (differences / std::max(differences.norm(), 1e-300)).cast<float>();
  checks.mean = (blocks * symmetric_eigen(apart).vectors.col(d - 1)).cast<float>();
  return checks;
}

/// log of the mean kurtosis of the columns of `z`.
double log_kurtosis(const FloatMatrix& z) {
  double sum = 0;
  for (Eigen::Index i = 0; i < z.cols(); ++i) {
    const auto squares = z.col(i).array().square();
    const double second = squares.mean();
    sum += second > 0 ? squares.square().mean() / (second * second) : 1;
  }
  return std::log(sum / static_cast<double>(z.cols()));
}

/// Smaller is better. @param guess A; @param z samples A^T
double penalty(const Checks& checks, const FloatMatrix& guess, const FloatMatrix& z) {
  double sum = -log_kurtosis(z);
  if (checks.differences.size() == 0) return sum;
  const FloatMatrix turned = guess * checks.differences * guess.transpose();
  sum += kOffDiagonal * (1 - turned.diagonal().squaredNorm());
  const Eigen::VectorXf sign = (guess * checks.mean).unaryExpr([](float v) { return v < 0 ? -1.0F : 1.0F; });
  double negative = 0;
  for (const FloatMatrix& moments : checks.non_negative) {
    const FloatMatrix signed_moments = sign.asDiagonal() * (guess * moments * guess.transpose()) * sign.asDiagonal();
    negative -= signed_moments.cwiseMin(0.0F).sum() / signed_moments.cwiseAbs().sum();
  }
  return sum + kNegative * 2 * negative / static_cast<double>(checks.non_negative.size());
}

FloatMatrix random_start(const FloatMatrix& blocks, Random& random) {
  std::vector<int> order(static_cast<size_t>(blocks.cols()));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  FloatMatrix guess(blocks.rows(), blocks.cols());
  for (Eigen::Index i = 0; i < blocks.cols(); ++i)
    guess.col(i) = blocks.col(order[static_cast<size_t>(i)]) * (random() % 2 == 0 ? 1.0F : -1.0F);
  return guess;
}

/// One run of annealing. @returns the best A that it met.
FloatMatrix anneal(const Checks& checks, const FloatMatrix& blocks, int proposals, Random& random) {
  const auto d = static_cast<uint64_t>(blocks.cols());
  std::uniform_real_distribution<double> uniform;
  FloatMatrix guess = random_start(blocks, random), best = guess;
  FloatMatrix z = checks.samples * guess.transpose();
  double now = penalty(checks, guess, z), least = now;
  for (int n = 0; n < proposals; ++n) {
    const double done = static_cast<double>(n) / proposals;
    const double temperature = kStartTemperature * std::pow(kEndTemperature / kStartTemperature, done);
    const auto i = static_cast<Eigen::Index>(random() % d), j = static_cast<Eigen::Index>(random() % d);
    FloatMatrix other = guess;
    other.col(i) = guess.col(j) * (random() % 2 == 0 ? 1.0F : -1.0F);
    if (i != j) other.col(j) = guess.col(i) * (random() % 2 == 0 ? 1.0F : -1.0F);
    FloatMatrix changed = z + checks.samples.col(i) * (other.col(i) - guess.col(i)).transpose();
    if (i != j) changed += checks.samples.col(j) * (other.col(j) - guess.col(j)).transpose();
    const double then = penalty(checks, other, changed);
    if (then >= now && uniform(random) >= std::exp((now - then) / temperature)) continue;
    guess.swap(other);
    z.swap(changed);
    now = then;
    if (n % 64 == 0) z = checks.samples * guess.transpose();  // rounding adds up
    if (now >= least) continue;
    least = now;
    best = guess;
  }
  return best;
}

struct Found {
  Matrix directions;
  double penalty = 0;
  int starts = 0;
};

Found search(const Evidence& evidence, const Matrix& samples, double patience, Random& random) {
  const Matrix blocks = hadamard_blocks(samples.cols());
  const FloatMatrix float_blocks = blocks.cast<float>();
  const Checks coarse = make_checks(evidence, samples, blocks, true),
               fine = make_checks(evidence, samples, blocks, false);
  const auto d = static_cast<double>(samples.cols());
  const int proposals = static_cast<int>(12'000 * std::pow(d / 16, 2));
  const double cost = proposals * (static_cast<double>(coarse.samples.rows()) * d * 6 + 6 * d * d * d);
  const int starts = static_cast<int>(std::clamp(patience * 2e10 / cost, 1.0, 1000.0));
  Found found;
  for (int start = 0; start < starts; ++start) {
    const FloatMatrix guess = anneal(coarse, float_blocks, proposals, random);
    const double value = penalty(fine, guess, fine.samples * guess.transpose());
    ++found.starts;
    if (found.directions.size() != 0 && value >= found.penalty) continue;
    found.penalty = value;
    found.directions = guess.cast<double>() * blocks;
  }
  return found;
}

/// Keys of the same structure as the guess come nearer to it than random rotations do.
Chance chance_of(const Matrix& guess) {
  uint64_t number = 0;
  const auto scheme = obfuscation::make_protection({});
  return measure_chance(100, [&] {
    Csprng stream(derive_key(key_from_seed_insecure(++number), "audit-fresh-keys"));
    const auto key = scheme->channel_key(stream, static_cast<uint32_t>(guess.rows()));
    return match_directions(guess, dense_key(key, obfuscation::Form::kDirect)).median_cosine;
  });
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto nothing = [](const char* why) { return std::vector{not_applicable(kNumber, kTarget, why)}; };
  if (layer.view.empty() || layer.truth.empty()) return nothing("nothing recorded");
  const StepTruth& truth = layer.truth.front();
  if (truth.inner.rows() < 2) return nothing("a single channel");
  if (truth.inner.rows() > kMostChannels) return nothing("too many channels to search");
  const Evidence evidence = pool_evidence(layer);
  if (evidence.gradients.empty() || evidence.scale_products.empty())
    return nothing("no weight gradients under the keys of the weights");

  const ZeroDiagonal right = zero_diagonal_basis(evidence.scale_products, {}, random);
  const Matrix samples = kernel_gradients(evidence, right.directions, layer.taps());
  const Found found = search(evidence, samples, layer.patience, random);
  Finding finding = scored(kNumber, kTarget, "median |cos| of matched directions",
                           match_directions(found.directions, truth.inner).median_cosine, chance_of(found.directions));
  const double identity =
      match_directions(Matrix::Identity(truth.inner.rows(), truth.inner.cols()), truth.inner).median_cosine;
  if (identity > 0.99) finding.chance = identity;  // permuted keys keep directions
  finding.note = fmt::format("{} steps under {} keys, {} starts, penalty {:.4f}", evidence.steps, evidence.keys,
                             found.starts, found.penalty);
  return {finding};
}

}  // namespace
}  // namespace key_search

const Attack kKeySearch{key_search::kNumber,
                        "search for keys by their structure",
                        "Are there few enough keys of the built-in structure to find the one that fits?",
                        "how keys are made; that a batch norm follows and ReLU precedes",
                        "Kirkpatrick et al., 1983 (annealing); own analysis",
                        key_search::run};

}  // namespace tempo::audit
