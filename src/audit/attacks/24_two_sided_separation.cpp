// Two-sided separation of weight gradients.
// What the attacker has: dW~ of every recorded step, under keys that it relates through W~ (evidence.h).
// Algorithm: dW~_k = R^T dW_k M for every step and tap k. Entries of a gradient are heavier in the tails than mixtures
// of them, so orthogonal A, B are sought that make the fourth powers of A dW~_k B^T largest: A and B in turn are set to
// the polar factor of the derivative, as in symmetric FastICA with both sides at once, from several random starts; the
// best value wins. Attack 12 separates one side, of mixtures by the other. Once as gradients are, once whitened on both
// sides.
// Source: Hyvarinen, 1999 (FastICA); alternating maximisation as for orthogonal Tucker models (De Lathauwer et al.,
// 2000); the objective: own analysis.
// Success: median |cos| of rows of A and of R, of B and of M, matched one to one.
// Chance: the same guess against fresh keys (`key_finding`).
// Known to work: gradients whose entries are independent and heavy-tailed, some hundred steps.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"
#include "audit/algebra/separation.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/evidence.h"

namespace tempo::audit {
namespace two_sided_separation {
namespace {

constexpr int kNumber = 24;
constexpr int kMostIterations = 60;
constexpr double kBudget = 4e9;  // multiply-adds, some seconds of one core
constexpr const char* kInner = "M, from both sides of dW~";
constexpr const char* kRight = "R, from both sides of dW~";
constexpr const char* kInnerWhite = "M, from both sides of dW~, whitened";
constexpr const char* kRightWhite = "R, from both sides of dW~, whitened";

using Matrices = std::vector<Matrix>;

struct Unmixing {
  Matrix left, right;  ///< A [out, out] and B [in, in]
  double fourth_moment = 0;
};

/// One turn of A and B; `fourth_moment` is that of the unmixing given.
Unmixing improved(const Unmixing& from, const Matrices& samples) {
  Matrix pull_right = Matrix::Zero(from.right.rows(), from.right.cols());
  Matrix pull_left = Matrix::Zero(from.left.rows(), from.left.cols());
  double sum = 0;
  for (const Matrix& sample : samples) {
    const Matrix one_side = from.left * sample;
    const Matrix z = one_side * from.right.transpose();
    sum += z.array().square().square().sum();
    const Matrix cube = z.array().cube().matrix();
    pull_right.noalias() += cube.transpose() * one_side;
    pull_left.noalias() += cube * from.right * sample.transpose();
  }
  const double entries = static_cast<double>(samples.size()) * static_cast<double>(samples.front().size());
  return {nearest_orthogonal(pull_left), nearest_orthogonal(pull_right), sum / entries};
}

Unmixing separate(const Matrices& samples, double patience, Random& random) {
  const auto out = static_cast<double>(samples.front().rows()), in = static_cast<double>(samples.front().cols());
  const double iteration = 2 * static_cast<double>(samples.size()) * out * in * (out + in);
  const int starts = static_cast<int>(std::clamp(patience * kBudget / (iteration * kMostIterations), 2.0, 40.0));
  Unmixing best;
  for (int start = 0; start < starts; ++start) {
    Unmixing now{random_orthogonal(samples.front().rows(), random), random_orthogonal(samples.front().cols(), random)};
    double last = 0;
    for (int i = 0; i < kMostIterations; ++i) {
      Unmixing next = improved(now, samples);
      now.fourth_moment = next.fourth_moment;
      if (now.fourth_moment > best.fourth_moment) best = now;
      if (i > 5 && std::abs(now.fourth_moment - last) < 1e-5 * last) break;
      last = now.fourth_moment;
      now = std::move(next);
    }
  }
  return best;
}

/// V diag(e^power) V^T of a covariance.
Matrix power_of(const Matrix& covariance, double power) {
  const EigenPairs eigen = symmetric_eigen(covariance);
  const double floor = 1e-6 * std::max(eigen.values.maxCoeff(), 1e-300);
  const Vector raised = eigen.values.cwiseMax(floor).array().pow(power);
  return eigen.vectors * raised.asDiagonal() * eigen.vectors.transpose();
}

struct Whitening {
  Matrices samples;
  Matrix left, right;  ///< square roots of the covariances of rows and of columns
};

Whitening whiten_both(const Matrices& samples) {
  Matrix rows = Matrix::Zero(samples.front().rows(), samples.front().rows());
  Matrix columns = Matrix::Zero(samples.front().cols(), samples.front().cols());
  for (const Matrix& sample : samples) {
    rows.noalias() += sample * sample.transpose();
    columns.noalias() += sample.transpose() * sample;
  }
  rows /= static_cast<double>(samples.size()) * static_cast<double>(samples.front().cols());
  columns /= static_cast<double>(samples.size()) * static_cast<double>(samples.front().rows());
  const Matrix left = power_of(rows, -0.5), right = power_of(columns, -0.5);
  Whitening white{{}, power_of(rows, 0.5), power_of(columns, 0.5)};
  for (const Matrix& sample : samples) white.samples.push_back(left * sample * right);
  return white;
}

/// Directions that whitened sources have in what was sent; orthogonal, as keys are.
Matrix orthogonal_directions(Matrix directions) {
  directions.rowwise().normalize();
  return nearest_orthogonal(directions);
}

/// Evenly spread over steps: what the budget allows two starts for.
Matrices affordable(const Matrices& all, double patience) {
  const auto out = static_cast<double>(all.front().rows()), in = static_cast<double>(all.front().cols());
  const auto most =
      static_cast<size_t>(std::max(patience * kBudget / (2 * kMostIterations) / (2 * out * in * (out + in)), 50.0));
  if (all.size() <= most) return all;
  Matrices some;
  for (size_t i = 0; i < most; ++i) some.push_back(all[i * all.size() / most]);
  return some;
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto nothing = [](const char* why) {
    std::vector<Finding> findings;
    for (const char* target : {kInner, kRight, kInnerWhite, kRightWhite})
      findings.push_back(not_applicable(kNumber, target, why));
    return findings;
  };
  if (layer.view.empty() || layer.truth.empty()) return nothing("nothing recorded");
  const StepTruth& truth = layer.truth.front();
  const Evidence evidence = pool_evidence(layer);
  if (evidence.gradients.empty()) return nothing("no weight gradients under the keys of the weights");
  if (truth.inner.rows() < 2 || truth.right.rows() < 2) return nothing("a single channel");

  const Matrices samples = affordable(evidence.gradients, layer.patience);
  const Unmixing plain = separate(samples, layer.patience, random);
  const Whitening whitening = whiten_both(samples);
  const Unmixing white = separate(whitening.samples, layer.patience, random);
  const auto finding = [&](const char* target, const Matrix& guess, const Matrix& key, double moment) {
    Finding about;
    about.attack = kNumber;
    about.target = target;
    about.note = fmt::format("{} steps under {} keys, fourth moment {:.2f}", evidence.steps, evidence.keys, moment);
    return key_finding(std::move(about), guess, key, random);
  };
  return {finding(kInner, plain.right, truth.inner, plain.fourth_moment),
          finding(kRight, plain.left, truth.right, plain.fourth_moment),
          finding(kInnerWhite, orthogonal_directions(white.right * whitening.right), truth.inner, white.fourth_moment),
          finding(kRightWhite, orthogonal_directions(white.left * whitening.left), truth.right, white.fourth_moment)};
}

}  // namespace
}  // namespace two_sided_separation

const Attack kTwoSidedSeparation{two_sided_separation::kNumber,
                                 "two-sided separation",
                                 "Do the weight gradients of many steps give the keys of both sides away at once?",
                                 "nothing; that the weight changes little from step to step",
                                 "Hyvarinen, 1999; De Lathauwer et al., 2000; own analysis",
                                 two_sided_separation::run};

}  // namespace tempo::audit
