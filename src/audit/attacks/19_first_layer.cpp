// The first layer and the images.
// What the attacker has: what attack 18 has of the first two offloaded layers, and other images of the same kind.
// Algorithm: X~ of the first offloaded layer is ReLU of what the first layer, which stays in the TEE, makes of the
// images. Patches that are positive in eight channels span the space of three colours under 3x3 kernels, which gives
// the kernels up to a mix of colours (theft/first_layer.h); least squares over all positive entries gives the images in
// the same mixed colours. The mix is then chosen so that colours and their steps look like those of the other images.
// Source: own analysis; subspace identification: Moulines et al., 1995.
// Success: (a) share of pixels within 16 of 255 grey levels of the truth, colours matched to other images; (b) the
// same, with the colours known, which an oracle gives by least squares; (c) median |cos| of kernels, colours known.
// Chance: (a), (b) the recovered images shuffled; (c) the kernels shuffled. Two outermost pixels are left out.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"
#include "audit/theft/first_layer.h"
#include "audit/theft/layer_chain.h"

namespace tempo::audit {
namespace first_layer {
namespace {

constexpr int kNumber = 19;
constexpr int kShuffles = 20;
constexpr double kGreyLevels = 16;
constexpr const char* kImages = "training images, colours matched to others";
constexpr const char* kImagesKnown = "training images, colours known";
constexpr const char* kKernels = "kernels of the first layer, colours known";

/// The true image of every recovered one, by the row that it was laid out from.
std::vector<int64_t> true_images(const LayerCase& layer, const std::vector<int64_t>& rows, Random& random) {
  const StepView& view = layer.view.front();
  const StepTruth& truth = layer.truth.front();
  Operand first(static_cast<int64_t>(rows.size()), view.x.height, view.x.width, view.x.channels);
  const int64_t size = view.x.positions() * view.x.channels;
  for (size_t i = 0; i < rows.size(); ++i)
    std::copy_n(view.x.values.begin() + rows[i] * size, size, first.values.begin() + static_cast<int64_t>(i) * size);
  const Ownership owners = owners_of_rows(first, inverse_of(truth.inner), truth.x, first.rows, {}, random);
  std::vector<int64_t> images(rows.size(), 0);
  for (size_t i = 0; i < owners.owner.size(); ++i)
    images[static_cast<size_t>(owners.blinded[i])] = owners.owner[i] / (layer.tiles_y * layer.tiles_x);
  return images;
}

/// Absolute differences in grey levels over all pixels but the outermost.
std::vector<double> errors_of(const FeatureMaps& recovered, const FeatureMaps& truth) {
  std::vector<double> errors;
  for (int64_t i = 0; i < recovered.images; ++i)
    for (int64_t c = 0; c < recovered.channels; ++c)
      for (int64_t y = kUncertainBorder; y < recovered.height - kUncertainBorder; ++y)
        for (int64_t x = kUncertainBorder; x < recovered.width - kUncertainBorder; ++x) {
          const int64_t p = y * recovered.width + x;
          const double error = std::abs(recovered.map(i, c)[p] - truth.map(i, c)[p]);
          errors.push_back(std::isfinite(error) ? error : 255);
        }
  return errors;
}

double share_within(const std::vector<double>& errors) {
  const auto near = std::count_if(errors.begin(), errors.end(), [](double e) { return e <= kGreyLevels; });
  return errors.empty() ? 0 : static_cast<double>(near) / static_cast<double>(errors.size());
}

Finding score_images(const char* target, const FirstLayer& layer, const FeatureMaps& truth, Random& random) {
  const std::vector<double> errors = errors_of(layer.images, truth);
  std::vector<int64_t> order(static_cast<size_t>(truth.images));
  std::iota(order.begin(), order.end(), 0);
  const Chance chance = measure_chance(kShuffles, [&] {
    std::shuffle(order.begin(), order.end(), random);
    return share_within(errors_of(layer.images, take_images(truth, order)));
  });
  Finding finding =
      scored(kNumber, target, "share of pixels within 16 of 255 grey levels", share_within(errors), chance);
  finding.note = fmt::format("median error {:.2f} of 255 grey levels over {} images", median(errors), truth.images);
  return finding;
}

/// @param columns by plain channel the column of X~ that holds it.
Finding score_kernels(const FirstLayer& layer, const Operand& truth, std::vector<int> columns, Random& random) {
  const Matrix kernels = truth.by_row();  // [out, taps * colours]
  const auto score = [&] {
    std::vector<double> cosines;
    for (Eigen::Index c = 0; c < kernels.rows(); ++c) {
      const auto column = static_cast<Eigen::Index>(columns[static_cast<size_t>(c)]);
      const double norms = layer.kernels.row(column).norm() * kernels.row(c).norm();
      cosines.push_back(norms > 0 ? std::abs(layer.kernels.row(column).dot(kernels.row(c))) / norms : 0);
    }
    return median(cosines);
  };
  const double right = score();
  const Chance chance = measure_chance(kShuffles, [&] {
    std::shuffle(columns.begin(), columns.end(), random);
    return score();
  });
  return scored(kNumber, kKernels, "median |cos|", right, chance);
}

std::vector<Finding> of_nothing(const char* note) {
  std::vector<Finding> findings = {scored(kNumber, kImages, "share of pixels within 16 of 255 grey levels", 0, {}),
                                   scored(kNumber, kImagesKnown, "share of pixels within 16 of 255 grey levels", 0, {}),
                                   scored(kNumber, kKernels, "median |cos|", 0, {})};
  for (Finding& finding : findings) finding.note = note;
  return findings;
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto refuse = [](const char* why) -> std::vector<Finding> {
    return {not_applicable(kNumber, kImages, why), not_applicable(kNumber, kImagesKnown, why),
            not_applicable(kNumber, kKernels, why)};
  };
  if (!layer.reads_first_layer) return refuse("the layer does not read what the first layer puts out");
  const StepTruth& truth = layer.truth.front();
  if (layer.next == nullptr || truth.images.empty() || truth.first_weight.empty() || layer.knowledge.images.empty())
    return refuse("the images, or the next layer, were not recorded");
  if (truth.first_weight.height != 3 || truth.first_weight.channels != 3 || truth.first_weight.rows != layer.in())
    return refuse("the first layer is not of 3x3 kernels over three colours");

  const LayerCase* const chain_layers[] = {&layer, layer.next};
  const LayerChain chain = follow_layers(chain_layers, random);
  if (chain.images() == 0) return of_nothing("no image was laid out");
  const auto recovered = recover_first_layer(chain.layers.front().x, random);
  if (!recovered) return of_nothing("too few patches are positive in enough channels");

  const FeatureMaps images =
      take_images(maps_of(truth.images), true_images(layer, chain.layers.front().first_row, random));
  const FirstLayer matched =
      in_colours(*recovered, match_colours(recovered->images, maps_of(layer.knowledge.images), random));
  const FirstLayer known = in_colours(*recovered, known_colours(recovered->images, images));
  std::vector<Finding> findings = {score_images(kImages, matched, images, random),
                                   score_images(kImagesKnown, known, images, random),
                                   score_kernels(known, truth.first_weight, largest_columns(truth.inner), random)};
  findings[1].given_truth = findings[2].given_truth = true;
  return findings;
}

}  // namespace
}  // namespace first_layer

const Attack kFirstLayer{19,
                         "first layer and images",
                         "Can a worker recover the training images, and the layer that was never sent?",
                         "one step, the architecture, other images of the same kind",
                         "own analysis; subspace identification: Moulines et al., 1995",
                         first_layer::run};

}  // namespace tempo::audit
