// Image layout.
// What the attacker has: X~ of one layer in one step, cut into tiles that overlap, and the geometry of the layer.
// Algorithm: X >= 0 after ReLU, so the signs of X~ are of rank one and are undone. Tiles that lie side by side share
// pixels; under keys that only move and scale, the shared part of one is proportional to that of the other and zero in
// the same places, which is true of no other pair. Pairs give the places of tiles in their images and the ratios of
// their scales; the zeros of the padding give the place of the whole.
// Source: own analysis.
// Success: (a) share of tiles that were put into their place in their image; (b) share of tiles whose scale, relative
// to the others of the image, is right to one percent. Chance: the same places, and the same scales, dealt out anew
// among the tiles. 2,000 tiles are looked at.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"
#include "audit/theft/image_layout.h"

namespace tempo::audit {
namespace image_layout {
namespace {

constexpr int kNumber = 17;
constexpr int64_t kRows = 2000;
constexpr int kShuffles = 50;
constexpr double kScaleTolerance = 0.01;
constexpr const char* kPlaces = "places of tiles in their images";
constexpr const char* kScales = "scales of rows";

/// What the attack says of one row, beside what is true of it. Image -1: nothing is said.
struct Tile {
  int64_t said_image = -1, said_tile = 0;
  double said_scale = 0;
  int64_t image = 0, tile = 0;
  double scale = 0;
};

/// Factor by which a blinded row is the plain row, channel keys undone.
double scale_of(const Operand& blinded, int64_t row, const Matrix& undo, const Operand& plain, int64_t owner) {
  double product = 0, energy = 0;
  for (int64_t p = 0; p < plain.positions(); ++p) {
    Eigen::RowVectorXd seen(blinded.channels);
    for (int64_t c = 0; c < blinded.channels; ++c) seen(c) = blinded.at(row, p, c);
    const Eigen::RowVectorXd undone = seen * undo;
    for (int64_t c = 0; c < plain.channels; ++c) {
      product += undone(c) * plain.at(owner, p, c);
      energy += static_cast<double>(plain.at(owner, p, c)) * plain.at(owner, p, c);
    }
  }
  return energy > 0 ? product / energy : 0;
}

std::vector<Tile> compare(const LayerCase& layer, const ImageLayout& layout, Random& random) {
  const Operand& x = layer.view.front().x;
  const StepTruth& truth = layer.truth.front();
  const int64_t tiles = layer.tiles_y * layer.tiles_x;
  std::vector<Tile> said(static_cast<size_t>(x.rows));
  for (size_t i = 0; i < layout.images.size(); ++i)
    for (size_t t = 0; t < layout.images[i].row.size(); ++t)
      if (const int64_t row = layout.images[i].row[t]; row >= 0) {
        Tile& one = said[static_cast<size_t>(row)];
        one.said_image = static_cast<int64_t>(i);
        one.said_tile = static_cast<int64_t>(t);
        one.said_scale = layout.images[i].scale[t];
      }
  const Matrix undo = inverse_of(truth.inner);
  const Ownership rows = owners_of_rows(x, undo, truth.x, kRows, {}, random);
  std::vector<Tile> out;
  for (size_t i = 0; i < rows.owner.size(); ++i) {
    Tile one = said[static_cast<size_t>(rows.blinded[i])];
    one.image = rows.owner[i] / tiles;
    one.tile = rows.owner[i] % tiles;
    one.scale = scale_of(x, rows.blinded[i], undo, truth.x, rows.owner[i]);
    out.push_back(one);
  }
  return out;
}

/// For every image that was laid out, the true image that most of its tiles come from.
std::map<int64_t, int64_t> main_images(const std::vector<Tile>& tiles) {
  std::map<int64_t, std::map<int64_t, int>> votes;
  for (const Tile& tile : tiles)
    if (tile.said_image >= 0) ++votes[tile.said_image][tile.image];
  std::map<int64_t, int64_t> main;
  for (const auto& [said, count] : votes)
    main[said] = std::max_element(count.begin(), count.end(), [](const auto& a, const auto& b) {
                   return a.second < b.second;
                 })->first;
  return main;
}

double share_placed(const std::vector<Tile>& tiles, const std::map<int64_t, int64_t>& main) {
  const auto right = std::count_if(tiles.begin(), tiles.end(), [&](const Tile& tile) {
    return tile.said_image >= 0 && tile.said_tile == tile.tile && main.at(tile.said_image) == tile.image;
  });
  return tiles.empty() ? 0 : static_cast<double>(right) / static_cast<double>(tiles.size());
}

/// The factor of an image itself is free: ratios are compared with their median over the image.
double share_scaled(const std::vector<Tile>& tiles) {
  std::map<int64_t, std::vector<double>> ratios;
  for (const Tile& tile : tiles)
    if (tile.said_image >= 0 && tile.said_scale != 0) ratios[tile.said_image].push_back(tile.scale / tile.said_scale);
  int64_t right = 0;
  for (auto& [image, all] : ratios) {
    if (all.size() < 2) continue;
    const double typical = median(all);
    right +=
        std::count_if(all.begin(), all.end(), [&](double v) { return std::abs(v / typical - 1) < kScaleTolerance; });
  }
  return tiles.empty() ? 0 : static_cast<double>(right) / static_cast<double>(tiles.size());
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto refuse = [](const char* why) -> std::vector<Finding> {
    return {not_applicable(kNumber, kPlaces, why), not_applicable(kNumber, kScales, why)};
  };
  const StepView& view = layer.view.front();
  const StepTruth& truth = layer.truth.front();
  if (view.x.empty() || view.y.empty() || !view.x.same_shape(truth.x)) return refuse("X or Y was not recorded");
  if (layer.tiles_y * layer.tiles_x == 1) return refuse("a row is a whole image");
  if (view.x.height <= view.y.height * layer.stride) return refuse("tiles do not overlap");

  const ImageLayout layout = lay_out_images(layer, random);
  std::vector<Tile> tiles = compare(layer, layout, random);
  const double placed = share_placed(tiles, main_images(tiles)), scaled_right = share_scaled(tiles);
  std::vector<Tile> dealt = tiles;
  std::vector<size_t> order(tiles.size());
  std::iota(order.begin(), order.end(), 0);
  const auto deal = [&] {
    std::shuffle(order.begin(), order.end(), random);
    for (size_t i = 0; i < order.size(); ++i) {
      dealt[i].said_image = tiles[order[i]].said_image;
      dealt[i].said_tile = tiles[order[i]].said_tile;
      dealt[i].said_scale = tiles[order[i]].said_scale;
    }
  };
  const Chance place_chance = measure_chance(kShuffles, [&] {
    deal();
    return share_placed(dealt, main_images(dealt));
  });
  const Chance scale_chance = measure_chance(kShuffles, [&] {
    deal();
    return share_scaled(dealt);
  });
  std::vector<Finding> findings = {scored(kNumber, kPlaces, "share of tiles placed", placed, place_chance),
                                   scored(kNumber, kScales, "share right to 1%", scaled_right, scale_chance)};
  for (Finding& finding : findings) finding.note = fmt::format("{} images were laid out", layout.images.size());
  return findings;
}

}  // namespace
}  // namespace image_layout

const Attack kImageLayout{17,
                          "image layout",
                          "Can a worker put the rows that it is sent together to images again?",
                          "one step, the geometry",
                          "own analysis",
                          image_layout::run};

}  // namespace tempo::audit
