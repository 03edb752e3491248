#include "audit/attacks/evidence.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "audit/algebra/alignment.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/pooling.h"

namespace tempo::audit {
namespace {

constexpr int64_t kMostFeatures = 600;
constexpr double kOpen = 0.99;  // keys that keep directions

std::vector<Matrix> taps_of_weight(const Operand& w) {
  std::vector<Matrix> taps;
  for (int64_t k = 0; k < w.positions(); ++k) taps.push_back(w.at_position(k));
  return taps;
}

/// By step, the maps that take what was sent under its keys to the keys of the first step; nothing where they are not
/// known.
struct Turns {
  Matrix left, right;  ///< [out, in] of this step becomes left^T [out, in] right
};

std::vector<std::optional<Turns>> turns_of(const LayerCase& layer) {
  std::vector<std::optional<Turns>> turns(layer.view.size());
  if (layer.view.empty() || layer.view.front().w.empty()) return turns;
  const Operand& first = layer.view.front().w;
  // An alignment takes some ten operations for every weight, channel and iteration: a second or two in all.
  const auto work = static_cast<double>(std::max(first.rows, first.channels));
  auto keys_left = static_cast<int>(std::clamp(layer.patience * 4e7 / (work * work * work), 1.0, 1000.0));
  turns[0] = Turns{Matrix::Identity(first.rows, first.rows), Matrix::Identity(first.channels, first.channels)};
  for (size_t t = 1; t < layer.view.size(); ++t) {
    const Operand& w = layer.view[t].w;
    if (!turns[t - 1] || !w.same_shape(first)) break;
    turns[t] = turns[t - 1];
    if (same_key(layer.truth[t].inner, layer.truth[t - 1].inner) &&
        same_key(layer.truth[t].right, layer.truth[t - 1].right))
      continue;
    turns[t].reset();
    if (w.positions() == 1 || keys_left-- == 0) break;
    const KeyPair change = align_orthogonal(taps_of_weight(w), taps_of_weight(layer.view[t - 1].w), 30);
    turns[t] = Turns{change.left * turns[t - 1]->left, change.right * turns[t - 1]->right};
  }
  return turns;
}

void add_gradients(Evidence& evidence, const StepView& view, const Turns& turn) {
  const Operand& dw = view.dw;
  double energy = 0;
  for (const float v : dw.values) energy += static_cast<double>(v) * v;
  if (!(energy > 0) || !std::isfinite(energy)) return;
  const double scale = std::sqrt(static_cast<double>(dw.values.size()) / energy);
  for (int64_t k = 0; k < dw.positions(); ++k)
    evidence.gradients.push_back(scale * turn.left.transpose() * dw.at_position(k) * turn.right);
  Matrix product = Matrix::Zero(dw.rows, dw.rows);
  for (int64_t k = 0; k < dw.positions(); ++k) product += view.w.at_position(k) * dw.at_position(k).transpose();
  product = (turn.left.transpose() * (product + product.transpose()) * turn.left).eval();
  if (product.norm() > 0) evidence.scale_products.push_back(product / product.norm());
}

/// The products of a step, and how many rows they sum over. Recordings bring them; else X~ is there in whole.
std::pair<Matrix, int64_t> products_of(const StepView& view) {
  if (view.x_products.size() != 0) return {view.x_products, view.x_product_rows};
  const int64_t features = view.x.positions() * view.x.channels;
  if (view.x.empty() || features > kMostFeatures) return {Matrix(), 0};
  const Matrix rows = view.x.by_row();
  return {rows.transpose() * rows, view.x.rows};
}

Matrix turned(const Matrix& products, const Matrix& turn) {
  const Eigen::Index d = turn.rows(), positions = products.rows() / d;
  Matrix out(products.rows(), products.cols());
  for (Eigen::Index p = 0; p < positions; ++p)
    for (Eigen::Index q = 0; q < positions; ++q)
      out.block(p * d, q * d, d, d) = turn.transpose() * products.block(p * d, q * d, d, d) * turn;
  return out;
}

constexpr int kPairs = 36;

/// sum over pairs of positions of |M^T known M - seen|^2; the mean of the diagonal does not count.
double misfit(const Matrix& known, const Matrix& seen, const Matrix& key) {
  const Eigen::Index d = key.rows(), positions = known.rows() / d;
  double sum = 0;
  for (Eigen::Index p = 0; p < positions; ++p)
    for (Eigen::Index q = 0; q < positions; ++q) {
      Matrix difference = key.transpose() * known.block(p * d, q * d, d, d) * key - seen.block(p * d, q * d, d, d);
      if (p == q) difference.diagonal().array() -= difference.diagonal().mean();
      sum += difference.squaredNorm();
    }
  return sum;
}

}  // namespace

void take_off_decoys(Matrix& products, int64_t channels, double energy) {
  const double share = energy / (1 + energy);
  for (Eigen::Index p = 0; p < products.rows() / channels; ++p) {
    auto diagonal = products.block(p * channels, p * channels, channels, channels).diagonal();
    diagonal.array() -= share * diagonal.mean();
  }
}

GramMatrices grams_from_products(const Matrix& products, int64_t channels, int pairs) {
  const int64_t positions = products.rows() / channels;
  const auto between = [&](int64_t p, int64_t q) {
    return Matrix(products.block(p * channels, q * channels, channels, channels));
  };
  Matrix sum = Matrix::Zero(channels, channels);
  for (int64_t p = 0; p < positions; ++p) sum += between(p, p);
  GramMatrices grams = {(sum + sum.transpose()) / 2};
  const int64_t all = positions * (positions - 1) / 2, used = std::min<int64_t>(pairs, all);
  int64_t number = 0, taken = 0;
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t q = p + 1; q < positions; ++q, ++number) {
      if (number * used / all < taken) continue;  // evenly spread
      ++taken;
      const Matrix cross = between(p, q);
      grams.push_back(between(p, p) + between(q, q) - cross - cross.transpose());
      grams.push_back(cross);
    }
  return grams;
}

Evidence pool_evidence(const LayerCase& layer) {
  Evidence evidence;
  const std::vector<std::optional<Turns>> turns = turns_of(layer);
  const bool brings_products =
      std::any_of(layer.view.begin(), layer.view.end(), [](const StepView& v) { return v.x_products.size() != 0; });
  int64_t rows = 0;
  for (size_t t = 0; t < layer.view.size() && turns[t]; ++t) {
    const StepView& view = layer.view[t];
    ++evidence.steps;
    evidence.keys += t == 0 || !same_key(layer.truth[t].inner, layer.truth[t - 1].inner);
    if (!view.dw.empty() && view.x_again.empty() && view.dw.same_shape(layer.view.front().w))
      add_gradients(evidence, view, *turns[t]);
    if (brings_products && view.x_products.size() == 0) continue;
    const auto [products, count] = products_of(view);
    if (count == 0 || (evidence.products.size() != 0 && evidence.products.rows() != products.rows())) continue;
    evidence.channels = turns[t]->right.rows();
    const Matrix under_first = turned(products, turns[t]->right);
    evidence.products = evidence.products.size() == 0 ? under_first : Matrix(evidence.products + under_first);
    rows += count;
  }
  if (rows > 0) {
    evidence.products /= static_cast<double>(rows);
    take_off_decoys(evidence.products, evidence.channels, layer.decoy_energy);
  }
  return evidence;
}

Matrix kernel_gradients(const Evidence& evidence, const Matrix& right, int64_t taps) {
  const Eigen::Index out = right.rows(), in = evidence.gradients.front().cols();
  Matrix samples(static_cast<Eigen::Index>(evidence.gradients.size()) * out, in);
  for (size_t first = 0; first < evidence.gradients.size(); first += static_cast<size_t>(taps)) {
    Vector energy = Vector::Zero(out);
    for (int64_t k = 0; k < taps; ++k) {
      const size_t i = first + static_cast<size_t>(k);
      const Matrix plain = right * evidence.gradients[i];
      samples.middleRows(static_cast<Eigen::Index>(i) * out, out) = plain;
      energy += plain.rowwise().squaredNorm();
    }
    const Vector scale = energy.cwiseMax(1e-300).cwiseSqrt().cwiseInverse();
    for (int64_t k = 0; k < taps; ++k)
      samples.middleRows(static_cast<Eigen::Index>(first + static_cast<size_t>(k)) * out, out).array().colwise() *=
          scale.array();
  }
  return samples;
}

Matrix key_between(const Matrix& known, const Evidence& seen, Random& random) {
  constexpr double kRidges[] = {1e-4, 1e-2, 0.1, 1, 10, 100};
  Matrix best;
  double least = 0;
  for (const double ridge : kRidges) {
    GramMatrices plain = grams_from_products(known, seen.channels, kPairs);
    GramMatrices blinded = grams_from_products(seen.products, seen.channels, kPairs);
    make_even(plain, ridge);
    make_even(blinded, ridge);
    const Matrix key = match_grams(plain, blinded, {.starts = 12, .rounds = 200}, random);
    const double error = misfit(known, seen.products, key);
    if (best.size() != 0 && !(error < least)) continue;
    best = key;
    least = error;
  }
  return best;
}

Finding key_finding(Finding about, const Matrix& guess, const Matrix& key, Random& random) {
  const int trials = key.rows() > 128 ? 5 : 20;
  Chance chance = direction_chance(guess, random, trials);
  const double identity = match_directions(Matrix::Identity(key.rows(), key.cols()), key).median_cosine;
  if (identity > kOpen) chance.mean = identity;
  about.measure = "median |cos| of matched directions";
  about.score = match_directions(guess, key).median_cosine;
  about.chance = chance.mean;
  about.noise = chance.stddev;
  return about;
}

}  // namespace tempo::audit
