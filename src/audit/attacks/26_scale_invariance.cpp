// Scale invariance before a norm.
// What the attacker has: W~ and dW~ of every recorded step, under keys that it relates (evidence.h); the architecture:
// a batch norm follows the layer.
// Algorithm: a batch norm takes the scale of every output channel out, so the loss does not change with the length of a
// channel's kernel, and its gradient is orthogonal to it: <W_o, dW_o> = 0, exactly, at every step. The worker computes
// S~ = sum over taps of W~_k dW~_k^T = R^T (sum W_k dW_k^T) R, in which M cancels; in the plain basis the diagonal of
// it is zero. So R is the orthogonal matrix that makes the diagonals of all steps' S~ vanish (algebra/zero_diagonal.h).
// A residual near zero tells the attacker that it is right. Neither rows, decoys nor the kind of orthogonal key matter.
// With R undone, the kernels' gradients lie open but for M: each is a sample that M alone mixes, and FastICA looks for
// the directions of M in them.
// Source: scale invariance of normalised layers (Salimans, Kingma, 2016; Arora et al., 2019); zero diagonals: own
// analysis, after joint diagonalisation (Cardoso, Souloumiac, 1996).
// Success: median |cos| of rows of R and of M, matched one to one.
// Chance: the same guess against fresh keys (`key_finding`).
// Known to work: whatever is followed by a batch norm, from about as many steps as there are output channels on.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "audit/algebra/zero_diagonal.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/evidence.h"
#include "audit/attacks/pooling.h"

namespace tempo::audit {
namespace scale_invariance {
namespace {

constexpr int kNumber = 26;
constexpr double kBudget = 3e10;  // multiply-adds, some ten seconds of one core
constexpr const char* kRight = "R, from kernels orthogonal to their gradients";
constexpr const char* kInner = "M, from gradients with R undone";

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto nothing = [](const char* why) {
    return std::vector{not_applicable(kNumber, kRight, why), not_applicable(kNumber, kInner, why)};
  };
  if (layer.view.empty() || layer.truth.empty()) return nothing("nothing recorded");
  const StepTruth& truth = layer.truth.front();
  const Evidence evidence = pool_evidence(layer);
  if (evidence.gradients.empty() || evidence.scale_products.empty())
    return nothing("no weight gradients under the keys of the weights");
  if (truth.inner.rows() < 2 || truth.right.rows() < 2) return nothing("a single channel");

  const ZeroDiagonal found =
      zero_diagonal_basis(evidence.scale_products, {.operations = layer.patience * kBudget}, random);
  Finding right;
  right.attack = kNumber;
  right.target = kRight;
  right.note = fmt::format("{} steps under {} keys, diagonals {:.1e} of the matrices, {} starts", evidence.steps,
                           evidence.keys, found.residual, found.starts);
  right = key_finding(std::move(right), found.directions, truth.right, random);

  const Matrix samples = kernel_gradients(evidence, found.directions, layer.taps());
  const Matrix directions = channel_directions(samples, random, layer.patience);
  if (directions.rows() != truth.inner.rows()) return {right, not_applicable(kNumber, kInner, "gradients do not vary")};
  Finding inner;
  inner.attack = kNumber;
  inner.target = kInner;
  inner.note = fmt::format("{} samples", samples.rows());
  return {right, key_finding(std::move(inner), directions, truth.inner, random)};
}

}  // namespace
}  // namespace scale_invariance

const Attack kScaleInvariance{scale_invariance::kNumber,
                              "scale invariance",
                              "Do gradients that are orthogonal to their kernels give the keys of channels away?",
                              "the architecture: a batch norm follows",
                              "Salimans, Kingma, 2016; own analysis",
                              scale_invariance::run};

}  // namespace tempo::audit
