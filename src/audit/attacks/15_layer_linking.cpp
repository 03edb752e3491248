// Layer linking.
// What the attacker has: Y~ of one layer and X~ of the layer that reads it through a norm and ReLU.
// Algorithm: keys that only move and scale leave the shape of the distribution of a channel. Columns of Y~ are
// standardised, as the norm would, and cut at zero, as ReLU does, under both signs; columns of X~ are taken in
// magnitude. 64 quantiles of each, at unit length, are compared, and channels linked one to one by the Hungarian
// method. Linked keys of neighbouring layers say which output channel is which input channel: the order of the model.
// Source: own analysis (shared/design.md, section 9); matching: Kuhn, 1955.
// Success: share of channels linked: channel o sits in the column of Y~ with the largest |R(o, .)| and in the column of
// the next X~ with the largest |M(o, .)|.
// Chance: random one to one links. About 10,000 samples a column; padding of the next layer is left out.
#include <algorithm>
#include <cmath>

#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace layer_linking {
namespace {

constexpr int kNumber = 15;
constexpr int64_t kSamples = 10'000;
constexpr int kQuantiles = 64;
constexpr const char* kTarget = "channels linked to the next layer";

/// Quantiles of a sample, rising, at unit length.
Eigen::RowVectorXd shape_of(Vector sample) {
  std::sort(sample.begin(), sample.end());
  Eigen::RowVectorXd shape(kQuantiles);
  for (int q = 0; q < kQuantiles; ++q)
    shape(q) = sample(static_cast<Eigen::Index>((q + 0.5) / kQuantiles * static_cast<double>(sample.size())));
  const double norm = shape.norm();
  if (norm > 0 && std::isfinite(norm))
    shape /= norm;
  else
    shape.setZero();
  return shape;
}

/// Shapes of what a norm and ReLU make of the columns of Y~, with sign +1 or -1: [channels, quantiles].
Matrix output_shapes(const Matrix& samples, double sign) {
  Matrix shapes(samples.cols(), kQuantiles);
  for (Eigen::Index c = 0; c < samples.cols(); ++c) {
    const double mean = samples.col(c).mean();
    shapes.row(c) = shape_of((sign * (samples.col(c).array() - mean)).max(0.0));
  }
  return shapes;
}

Matrix input_shapes(const Matrix& samples) {
  Matrix shapes(samples.cols(), kQuantiles);
  for (Eigen::Index c = 0; c < samples.cols(); ++c) shapes.row(c) = shape_of(samples.col(c).cwiseAbs());
  return shapes;
}

/// For every column of Y~ the column of the next layer's X~ that continues it.
std::vector<int> guess_links(const Operand& y, const Operand& next_x, Random& random) {
  const Matrix outputs = sample_channels(y, kSamples, false), inputs = sample_channels(next_x, kSamples, true);
  if (outputs.rows() == 0 || inputs.rows() == 0) return {};
  const Matrix there = input_shapes(inputs);
  const Matrix similarity =
      (output_shapes(outputs, 1) * there.transpose()).cwiseMax(output_shapes(outputs, -1) * there.transpose());
  return assign_ties_at_random(similarity, random);
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  if (layer.next == nullptr || layer.next->view.empty() || layer.next->truth.empty())
    return {not_applicable(kNumber, kTarget, "the next layer was not recorded")};
  if (layer.adds_shortcut) return {not_applicable(kNumber, kTarget, "the next layer reads a sum with a shortcut")};
  const Operand& y = layer.view.front().y;
  const Operand& next_x = layer.next->view.front().x;
  const Matrix& right = layer.truth.front().right;
  const Matrix& inner = layer.next->truth.front().inner;
  if (y.empty() || next_x.empty()) return {not_applicable(kNumber, kTarget, "Y or the next X was not recorded")};
  if (y.channels != next_x.channels || right.rows() != y.channels || inner.rows() != y.channels)
    return {not_applicable(kNumber, kTarget, "the next layer reads other channels")};
  if (y.channels < 2) return {not_applicable(kNumber, kTarget, "a single channel")};

  const std::vector<int> guess = guess_links(y, next_x, random);
  const std::vector<int> from = largest_columns(right), to = largest_columns(inner);
  return {scored(kNumber, kTarget, "share of channels linked", share_linked(guess, from, to),
                 linking_chance(from, to, y.channels, random))};
}

}  // namespace
}  // namespace layer_linking

const Attack kLayerLinking{15,
                           "layer linking",
                           "Can a worker tell which output channel of a layer is which input channel of the next?",
                           "nothing",
                           "own analysis; assignment: Kuhn, 1955",
                           layer_linking::run};

}  // namespace tempo::audit
