// Linking of keys that are not orthogonal.
// What the attacker has: W~, dW~, and the products X~^T X~ and dY~^T dY~ of every recorded step, in which row keys
//   cancel.
// Algorithm: what does not depend on invertible keys is compared from step to step. Q is R unless the backward pass has
//   keys of its own:  S = X~^T X~ = M^T C M,  T = dY~^T dY~ = Q^-1 D Q^-T,  W~ = M^-1 W R,  dW~ = M^T dW Q^-T.
//   - forms: W~^T S W~ turns as R^T (..) R. If Q = R, its product with T is a similarity, whose eigenvectors R carries
//     to plain ones.
//   - taps: if the taps of a kernel share their keys, the change of keys solves a linear system.
//   - correlations: canonical directions of X and dY, and of Y and dY, are plain under any keys. Gradients differ from
//     batch to batch, and the directions with them. Decoys are part of S and T, but not of dW~.
//   - singular vectors of W~, as if keys were orthogonal.
//   Then the rule of attack 26: in plain, the diagonal of W dW^T is zero before a batch norm. Linked steps are turned
//   to the first one's key, and pairs r, q with r A_t q = 0 for all steps t are solved for, without taking keys as
//   orthogonal.
// Source: canonical correlations (Hotelling, 1936); simultaneous conjugation; own analysis.
// Success: median |cos| in plain between the vectors of two steps that are taken for the same one, over pairs of
//   successive steps; of the rows of R for what follows.
// Chance: the same where the vectors of a step are turned at random under its own covariance.
// Known to work: R the same in both directions; taps that share keys; equal gradients. Eigenvectors leave signs open,
//   so that what follows from forms alone stays at chance.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/matching.h"
#include "audit/algebra/oblique_links.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/pooling.h"

namespace tempo::audit {
namespace oblique_linking {
namespace {

constexpr int kNumber = 27;
constexpr size_t kMostPairs = 12;
constexpr Eigen::Index kMostFeatures = 600;
constexpr double kBudget = 2e10;  // multiply-adds, some ten seconds of one core
constexpr const char* kMeasure = "median |cos| of vectors taken for one another";
constexpr const char* kRightForms = "R of successive steps, by forms of both directions";
constexpr const char* kInnerForms = "M of successive steps, by forms of both directions";
constexpr const char* kRightTaps = "R of successive steps, by all taps";
constexpr const char* kInnerTaps = "M of successive steps, by all taps";
constexpr const char* kRightCorrelations = "R of successive steps, by correlations";
constexpr const char* kInnerCorrelations = "M of successive steps, by correlations";
constexpr const char* kBackwardCorrelations = "right key of dY, by correlations";
constexpr const char* kInnerLeading = "M of successive steps, leading correlation";
constexpr const char* kBackwardLeading = "right key of dY, leading correlation";
constexpr const char* kRightSingular = "R of successive steps, by singular vectors";
constexpr const char* kInnerSingular = "M of successive steps, by singular vectors";
constexpr const char* kKernelsByTaps = "R, from kernels orthogonal to their gradients, linked by taps";
constexpr const char* kKernelsByForms = "R, from kernels orthogonal to their gradients, linked by forms";
constexpr const char* kAll[] = {
    kRightForms,        kInnerForms,           kRightTaps,     kInnerTaps,       kRightCorrelations,
    kInnerCorrelations, kBackwardCorrelations, kInnerLeading,  kBackwardLeading, kRightSingular,
    kInnerSingular,     kKernelsByTaps,        kKernelsByForms};

/// One step as this attack reads it. Weights and their gradients are [taps * in, out].
struct Step {
  Matrix x_products, dy_products, w, dw;
  std::vector<Matrix> taps;  // of w, [in, out]
  const StepTruth* truth = nullptr;

  [[nodiscard]] bool has_products() const { return x_products.size() != 0 && dy_products.size() != 0; }
  [[nodiscard]] Matrix y_products() const { return w.transpose() * x_products * w; }
  /// The plain vectors that the keys carry these to.
  [[nodiscard]] Matrix by_right(const Matrix& v) const { return truth->right * v; }
  [[nodiscard]] Matrix by_backward(const Matrix& v) const {
    const Matrix& key = truth->right_again.size() != 0 ? truth->right_again : truth->right;
    return inverse_of(key).transpose() * v;
  }
  /// M acts on the channels of every tap alike, or on all of them at once.
  [[nodiscard]] Matrix by_inner(const Matrix& v) const {
    const Eigen::Index size = truth->inner.rows();
    Matrix out(v.rows(), v.cols());
    for (Eigen::Index start = 0; start < v.rows(); start += size)
      out.middleRows(start, size) = truth->inner * v.middleRows(start, size);
    return out;
  }
};

Matrix products_of_rows(const Operand& rows) {
  if (rows.empty()) return {};
  const Matrix m = rows.by_channel();
  return m.transpose() * m;
}

Step read_step(const LayerCase& layer, size_t t) {
  const StepView& view = layer.view[t];
  Step step;
  step.truth = &layer.truth[t];
  step.w = view.w.by_row().transpose();
  for (int64_t k = 0; k < view.w.positions(); ++k) step.taps.push_back(view.w.at_position(k).transpose());
  if (view.dw.same_shape(view.w)) step.dw = view.dw.by_row().transpose();
  step.x_products = view.x_products;
  if (step.x_products.size() == 0 && !view.x.empty() && !view.y.empty() && step.w.rows() <= kMostFeatures) {
    const Matrix rows = view.x.by_row();
    step.x_products = rows.transpose() * rows;
  }
  if (step.x_products.rows() != step.w.rows()) step.x_products = {};  // a row has more than one output
  step.dy_products = view.dy_products.size() != 0 ? view.dy_products : products_of_rows(view.dy);
  return step;
}

/// Steps to compare: each the first under its keys.
std::vector<Step> steps_of(const LayerCase& layer) {
  std::vector<Step> steps;
  for (size_t t = 0; t < std::min(layer.view.size(), layer.truth.size()); ++t) {
    const StepView& view = layer.view[t];
    if (view.w.empty() || !view.w.same_shape(layer.view.front().w)) break;
    if (t > 0 && same_key(layer.truth[t].inner, layer.truth[t - 1].inner)) continue;
    steps.push_back(read_step(layer, t));
  }
  return steps;
}

/// Plain vectors of two steps that are taken for the same ones, and what they were made from.
struct Pair {
  LinkVectors before, after;
  std::function<Matrix(const Matrix&)> plain_before, plain_after;
};

/// |cos| of columns of the same number, of the first `count` of them.
void add_cosines(const Matrix& a, const Matrix& b, Eigen::Index count, std::vector<double>& into) {
  for (Eigen::Index i = 0; i < std::min({count, a.cols(), b.cols()}); ++i) {
    const double norms = a.col(i).norm() * b.col(i).norm();
    into.push_back(norms > 0 ? std::min(std::abs(a.col(i).dot(b.col(i))) / norms, 1.0) : 0);
  }
}

double score_of(const std::vector<Pair>& pairs, Eigen::Index count) {
  std::vector<double> cosines;
  for (const Pair& p : pairs)
    add_cosines(p.plain_before(p.before.vectors()), p.plain_after(p.after.vectors()), count, cosines);
  return cosines.empty() ? 0 : median(cosines);
}

Chance chance_of(const std::vector<Pair>& pairs, Eigen::Index count, Random& random) {
  const int trials = pairs.front().before.scale.rows() > 300 ? 5 : 12;
  return measure_chance(trials, [&] {
    std::vector<Pair> turned = pairs;
    for (Pair& p : turned)
      p.before.frame = polar_factor(random_gaussian(p.before.frame.rows(), p.before.frame.cols(), random));
    return score_of(turned, count);
  });
}

Finding link_finding(const char* target, const std::vector<Pair>& pairs, Eigen::Index count, Random& random) {
  const double score = score_of(pairs, count);
  Finding finding =
      scored(kNumber, target, kMeasure, std::isfinite(score) ? score : 0, chance_of(pairs, count, random));
  finding.note = fmt::format("{} pairs of successive keys", pairs.size());
  return finding;
}

using MakePair = std::function<std::optional<Pair>(const Step& before, const Step& after)>;

std::vector<Pair> pairs_of(const std::vector<Step>& steps, const MakePair& make) {
  std::vector<Pair> pairs;
  const size_t all = steps.size() - 1, count = std::min(all, kMostPairs);
  for (size_t i = 0; i < count; ++i) {
    const size_t t = i * all / count;
    if (auto pair = make(steps[t], steps[t + 1])) pairs.push_back(std::move(*pair));
  }
  return pairs;
}

auto right_map(const Step& s) {
  return [&s](const Matrix& v) { return s.by_right(v); };
}
auto inner_map(const Step& s) {
  return [&s](const Matrix& v) { return s.by_inner(v); };
}
auto backward_map(const Step& s) {
  return [&s](const Matrix& v) { return s.by_backward(v); };
}

LinkVectors forms(const Step& s) { return form_and_dual(s.y_products(), s.dy_products); }
LinkVectors inner_forms(const Step& s) {
  LinkVectors vectors = forms(s);
  vectors.scale = (s.w * vectors.scale).eval();
  return vectors;
}
CanonicalVectors inputs_and_gradients(const Step& s) { return canonical_vectors(s.x_products, s.dw, s.dy_products); }
LinkVectors outputs_and_gradients(const Step& s) {
  return canonical_vectors(s.y_products(), s.w.transpose() * s.dw, s.dy_products).left;
}
LinkVectors singular_right(const Step& s) {
  const FullSvd svd = full_svd(s.w);
  return {Matrix::Identity(s.w.cols(), s.w.cols()), svd.v.leftCols(svd.values.size())};
}
/// Whatever the keys are, M carries all of them into the plain column space of W: that much is no link.
LinkVectors singular_inner(const Step& s) {
  const FullSvd svd = full_svd(s.w);
  const Eigen::Index count = svd.values.size();
  return {svd.u.leftCols(count), Matrix::Identity(count, count)};
}

/// A change of keys as vectors: the columns of the later step's coordinates, and where the change takes them.
std::optional<Pair> taps_pair(const Step& before, const Step& after, bool of_right) {
  const KeyChange change = key_change(before.taps, after.taps);
  const Matrix& map = of_right ? change.right : change.left;
  if (map.size() == 0) return std::nullopt;
  const Matrix identity = Matrix::Identity(map.rows(), map.cols());
  if (of_right) return Pair{{map, identity}, {identity, identity}, right_map(before), right_map(after)};
  return Pair{{map, identity}, {identity, identity}, inner_map(before), inner_map(after)};
}

/// By step, what takes A = W~^T dW~ to the coordinates of the first step: rows^T A columns.
struct Turn {
  Matrix rows, columns;
};

std::vector<Turn> turns_by_taps(const std::vector<Step>& steps) {
  std::vector<Turn> turns;
  const Eigen::Index m = steps.front().w.cols();
  Matrix to_first = Matrix::Identity(m, m);  // R_1^-1 R_t, up to a factor
  for (size_t t = 0; t < steps.size(); ++t) {
    if (t > 0) {
      const KeyChange change = key_change(steps[t - 1].taps, steps[t].taps);
      if (change.right.size() == 0) return {};
      to_first = (to_first * change.right / change.right.norm()).eval();
    }
    turns.push_back({inverse_of(to_first), to_first.transpose()});
  }
  return turns;
}

/// Signs of eigenvectors are open. Those that agree best with the steps before are taken, entry by entry.
std::vector<Turn> turns_by_forms(const std::vector<Step>& steps) {
  std::vector<Turn> turns;
  Matrix mean;
  for (const Step& step : steps) {
    const Matrix vectors = forms(step).vectors();
    const Matrix duals = inverse_of(vectors).transpose();
    const Matrix gradients =
        duals.transpose() * step.dw.transpose() * solve_symmetric(step.x_products, step.dw) * duals;
    const Matrix seen = gradients / std::max(gradients.norm(), 1e-300);
    Vector sign = Vector::Ones(seen.rows());
    for (int round = 0; mean.size() != 0 && round < 20; ++round)
      for (Eigen::Index i = 0; i < sign.size(); ++i) {
        double pull = 0;
        for (Eigen::Index j = 0; j < sign.size(); ++j)
          if (i != j) pull += mean(i, j) * seen(i, j) * sign[j];
        sign[i] = pull < 0 ? -1 : 1;
      }
    const Matrix turned = sign.asDiagonal() * seen * sign.asDiagonal();
    mean = mean.size() == 0 ? turned : Matrix(mean + turned);
    turns.push_back({vectors * sign.asDiagonal(), duals * sign.asDiagonal()});
  }
  return turns;
}

/// @param steps  all of them, `turns` of as many
Finding kernels_finding(const char* target, const std::vector<Step>& steps, const std::vector<Turn>& turns,
                        double patience, Random& random) {
  std::vector<Matrix> products;
  for (size_t t = 0; t < turns.size(); ++t) {
    if (steps[t].dw.size() == 0) continue;
    Matrix product = turns[t].rows.transpose() * (steps[t].w.transpose() * steps[t].dw) * turns[t].columns;
    if (std::isfinite(product.norm()) && product.norm() > 0) products.push_back(product / product.norm());
  }
  const Eigen::Index m = steps.front().w.cols();
  if (m < 2) return not_applicable(kNumber, target, "a single channel");
  if (static_cast<Eigen::Index>(products.size()) < 2 * m - 2)
    return not_applicable(kNumber, target, "fewer linked steps than unknowns of a kernel");
  const ZeroPairs found = zero_pairs(products, patience * kBudget, random);
  // In plain: r of the first step's coordinates stands for the output channels that  R rows r  names.
  const Matrix plain = (steps.front().truth->right * turns.front().rows * found.rows.transpose()).transpose();
  Finding finding =
      scored(kNumber, target, "median |cos| of matched directions",
             match_directions(plain, Matrix::Identity(m, m)).median_cosine, direction_chance(plain, random));
  finding.note = fmt::format("{} steps, residual {:.1e}, {} starts", products.size(), found.residual, found.starts);
  return finding;
}

/// Findings that need the products of both sides; `why` there is none, if there is none.
void add_product_findings(const std::vector<Step>& steps, const char* why, Random& random, std::vector<Finding>& into) {
  constexpr Eigen::Index kEvery = 1 << 20;
  const auto add = [&](const char* target, Eigen::Index count, const auto& vectors, const auto& map) {
    if (why != nullptr) return into.push_back(not_applicable(kNumber, target, why));
    const std::vector<Pair> pairs = pairs_of(steps, [&](const Step& a, const Step& b) -> std::optional<Pair> {
      return Pair{vectors(a), vectors(b), map(a), map(b)};
    });
    into.push_back(link_finding(target, pairs, count, random));
  };
  const auto of_inputs = [](const Step& s) { return inputs_and_gradients(s).left; };
  const auto of_gradients = [](const Step& s) { return inputs_and_gradients(s).right; };
  const auto by_right = [](const Step& s) { return right_map(s); };
  const auto by_inner = [](const Step& s) { return inner_map(s); };
  const auto by_backward = [](const Step& s) { return backward_map(s); };
  add(kRightForms, kEvery, forms, by_right);
  add(kInnerForms, kEvery, inner_forms, by_inner);
  add(kRightCorrelations, kEvery, outputs_and_gradients, by_right);
  add(kInnerCorrelations, kEvery, of_inputs, by_inner);
  add(kBackwardCorrelations, kEvery, of_gradients, by_backward);
  add(kInnerLeading, 1, of_inputs, by_inner);
  add(kBackwardLeading, 1, of_gradients, by_backward);
}

void add_weight_findings(const std::vector<Step>& steps, Random& random, std::vector<Finding>& into) {
  constexpr Eigen::Index kEvery = 1 << 20;
  for (const bool of_right : {true, false}) {
    const char* target = of_right ? kRightTaps : kInnerTaps;
    std::vector<Pair> pairs;
    if (steps.front().taps.size() > 1)
      pairs = pairs_of(steps, [&](const Step& a, const Step& b) { return taps_pair(a, b, of_right); });
    if (pairs.empty())
      into.push_back(not_applicable(kNumber, target, "no taps that share their keys, or too many channels"));
    else
      into.push_back(link_finding(target, pairs, kEvery, random));
  }
  const auto right = pairs_of(steps, [](const Step& a, const Step& b) -> std::optional<Pair> {
    return Pair{singular_right(a), singular_right(b), right_map(a), right_map(b)};
  });
  into.push_back(link_finding(kRightSingular, right, kEvery, random));
  const auto inner = pairs_of(steps, [](const Step& a, const Step& b) -> std::optional<Pair> {
    return Pair{singular_inner(a), singular_inner(b), inner_map(a), inner_map(b)};
  });
  into.push_back(link_finding(kInnerSingular, inner, kEvery, random));
}

std::vector<Finding> nothing(const char* why) {
  std::vector<Finding> findings;
  for (const char* target : kAll) findings.push_back(not_applicable(kNumber, target, why));
  return findings;
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  if (layer.view.empty() || layer.truth.empty() || layer.view.front().w.empty()) return nothing("nothing recorded");
  const std::vector<Step> steps = steps_of(layer);
  if (steps.size() < 2) return nothing("keys did not change while recorded");
  const bool has_products = std::all_of(steps.begin(), steps.end(), [](const Step& s) { return s.has_products(); });
  const bool has_gradients = std::all_of(steps.begin(), steps.end(), [](const Step& s) { return s.dw.size() != 0; });
  const StepView& view = layer.view.front();
  const char* why = !view.x_again.empty() || !view.dy_for_dw.empty()
                        ? "gradients of weights have keys of their own"
                        : (has_products && has_gradients ? nullptr : "no products of rows of one output");
  std::vector<Finding> findings;
  add_product_findings(steps, why, random, findings);
  add_weight_findings(steps, random, findings);
  const bool is_shared = steps.front().taps.size() > 1 && has_gradients && view.x_again.empty();
  findings.push_back(is_shared ? kernels_finding(kKernelsByTaps, steps, turns_by_taps(steps), layer.patience, random)
                               : not_applicable(kNumber, kKernelsByTaps, "no taps that share their keys"));
  findings.push_back(why == nullptr
                         ? kernels_finding(kKernelsByForms, steps, turns_by_forms(steps), layer.patience, random)
                         : not_applicable(kNumber, kKernelsByForms, why));
  return findings;
}

}  // namespace
}  // namespace oblique_linking

const Attack kObliqueLinking{oblique_linking::kNumber,
                             "linking of oblique keys",
                             "Do new keys that are not orthogonal keep the steps apart?",
                             "products of X~ and of dY~ of two steps, W~ and dW~",
                             "Hotelling, 1936; own analysis",
                             oblique_linking::run};

}  // namespace tempo::audit
