// Structure anchors.
// What the attacker has: X~ and the structure of the network: how images are cut into tiles, that they are padded with
// zeros, that rows of softmax sum to one.
// Algorithm: (a) A tile at the border of its image has padding, which is zero, on its outermost line. Blinded rows are
// ranked by the energy of each outermost line relative to their inside; as many as there are tiles at that border are
// taken, from the lowest. (b) A channel that is zero for the whole batch takes a dimension from the span of X~,
// whatever the keys: its singular values are counted. (c) Rows of X sum to one: X 1 = 1, so X~ v = L 1 for
// v = M^-1 1. Signs of L 1 come from the leading singular vector of X~, v from least squares against them, all rows
// brought to one length; with too few rows for that the leading singular vector itself is the guess.
// Source: own analysis; (b) is elementary linear algebra, (c) uses the theorem of Perron (1907) for the signs.
// Success: (a) balanced accuracy over the classes of place (which of four borders a tile touches) for the tiles that
// blinded rows mostly hold, at most 2,000 rows; (b) 1 if the number of dead channels is right, else 0; (c) |cos|
// between the guess and M^-1 1.
// Chance: (a) the same guesses shuffled among the rows: one over the number of classes; (b) 0; (c) the guess shuffled.
// The tile that a mixed row mostly holds is judged by the inside of the tile only: judged by its borders too, a mixture
// with a weak border by accident would be called a border tile on both sides.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace structure_anchors {
namespace {

constexpr int kNumber = 10;
constexpr int64_t kRows = 2000;
constexpr int kShuffles = 100;
constexpr const char* kPlace = "place of tiles in their image";
constexpr const char* kDead = "number of dead channels";
constexpr const char* kSums = "inner key by row sums";
constexpr double kFloor = 1e-5;

/// Which positions make up the inside of a tile and its four outermost lines, in the order top, bottom, left, right.
struct Lines {
  std::vector<int64_t> inside;
  std::vector<int64_t> border[4];
};

Lines lines_of(const Operand& x) {
  Lines lines;
  for (int64_t p = 0; p < x.positions(); ++p) {
    const int64_t row = p / x.width, column = p % x.width;
    const bool touches[4] = {row == 0, row == x.height - 1, column == 0, column == x.width - 1};
    bool is_inside = true;
    for (int side = 0; side < 4; ++side)
      if (touches[side]) lines.border[side].push_back(p), is_inside = false;
    if (is_inside) lines.inside.push_back(p);
  }
  return lines;
}

double mean_energy(const Operand& x, int64_t row, const std::vector<int64_t>& positions) {
  double sum = 0;
  for (const int64_t p : positions)
    for (int64_t c = 0; c < x.channels; ++c) sum += static_cast<double>(x.at(row, p, c)) * x.at(row, p, c);
  return positions.empty() ? 0 : sum / static_cast<double>(positions.size());
}

/// Which borders a tile touches, as four bits.
int place_of_tile(int64_t tile, int64_t tiles_y, int64_t tiles_x) {
  const int64_t y = tile / tiles_x, x = tile % tiles_x;
  return (y == 0 ? 1 : 0) | (y == tiles_y - 1 ? 2 : 0) | (x == 0 ? 4 : 0) | (x == tiles_x - 1 ? 8 : 0);
}

/// The place of every blinded row, from its energies alone.
std::vector<int> guess_places(const Operand& x, int64_t tiles_y, int64_t tiles_x, Random& random) {
  const Lines lines = lines_of(x);
  std::vector<double> inside;
  for (int64_t r = 0; r < x.rows; ++r) inside.push_back(mean_energy(x, r, lines.inside));
  std::vector<int> places(static_cast<size_t>(x.rows), 0), order(places.size());
  std::iota(order.begin(), order.end(), 0);
  for (int side = 0; side < 4; ++side) {
    std::vector<double> ratio;
    for (int64_t r = 0; r < x.rows; ++r) {
      const double energy = mean_energy(x, r, lines.border[side]), base = inside[static_cast<size_t>(r)];
      ratio.push_back(base > 0 ? energy / base : energy > 0 ? 1e300 : 1);
    }
    std::shuffle(order.begin(), order.end(), random);  // ties fall by chance
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return ratio[static_cast<size_t>(a)] < ratio[static_cast<size_t>(b)]; });
    const int64_t count = x.rows / (side < 2 ? tiles_y : tiles_x);
    for (int64_t i = 0; i < count; ++i) places[static_cast<size_t>(order[static_cast<size_t>(i)])] |= 1 << side;
  }
  return places;
}

/// Mean over the true classes of the share of their members that were guessed right.
double balanced_accuracy(const std::vector<int>& guess, const std::vector<int>& truth) {
  std::map<int, std::pair<int, int>> counts;  // right, all
  for (size_t i = 0; i < truth.size(); ++i) {
    auto& [right, all] = counts[truth[i]];
    ++all;
    if (guess[i] == truth[i]) ++right;
  }
  double sum = 0;
  for (const auto& [place, count] : counts) sum += static_cast<double>(count.first) / count.second;
  return counts.empty() ? 0 : sum / static_cast<double>(counts.size());
}

Finding find_places(const LayerCase& layer, Random& random) {
  const Operand& x = layer.view.front().x;
  const StepTruth& truth = layer.truth.front();
  const int64_t tiles = layer.tiles_y * layer.tiles_x;
  if (tiles < 2 || layer.taps() < 2 || x.height < 3 || x.width < 3 || x.rows % tiles != 0)
    return not_applicable(kNumber, kPlace, "rows are not tiles of a padded image");
  const Ownership rows = owners_of_rows(x, inverse_of(truth.inner), truth.x, kRows, lines_of(x).inside, random);
  const std::vector<int> all = guess_places(x, layer.tiles_y, layer.tiles_x, random);
  std::vector<int> guess, places;
  for (size_t i = 0; i < rows.owner.size(); ++i) {
    guess.push_back(all[static_cast<size_t>(rows.blinded[i])]);
    places.push_back(place_of_tile(rows.owner[i] % tiles, layer.tiles_y, layer.tiles_x));
  }
  if (std::set<int>(places.begin(), places.end()).size() < 2)
    return not_applicable(kNumber, kPlace, "all tiles have one place");
  const double score = balanced_accuracy(guess, places);
  const Chance chance = measure_chance(kShuffles, [&] {
    std::shuffle(guess.begin(), guess.end(), random);
    return balanced_accuracy(guess, places);
  });
  return scored(kNumber, kPlace, "balanced accuracy over places", score, chance);
}

/// Channels of X less the dimensions that X~ spans.
int64_t guess_dead_channels(const Operand& x) {
  const int64_t channels = x.channels;
  const Matrix samples = sample_channels(x, std::max<int64_t>(4096, 1'500'000'000 / (channels * channels + 1)), false);
  // The Gram matrix squares the singular values: 1e-10 of the largest is still far above double rounding.
  const Matrix gram = samples.transpose() * samples;
  const Vector squares = symmetric_eigen(gram).values;
  const double floor = kFloor * kFloor * squares.maxCoeff();
  return (squares.array() <= floor).count();
}

Finding count_dead_channels(const StepView& view, const StepTruth& truth) {
  std::vector<double> largest(static_cast<size_t>(truth.x.channels));
  for (size_t i = 0; i < truth.x.values.size(); ++i) {
    double& most = largest[i % largest.size()];
    most = std::max(most, static_cast<double>(std::abs(truth.x.values[i])));
  }
  const int64_t dead = std::count(largest.begin(), largest.end(), 0.0);
  if (dead == 0) return not_applicable(kNumber, kDead, "the layer has none");
  return scored(kNumber, kDead, "1 if the number is right", guess_dead_channels(view.x) == dead ? 1 : 0, {});
}

/// A multiple of M^-1 1.
Vector guess_inverse_sums(const Operand& x) {
  Matrix rows = sample_channels(x, 4096, false);
  const Eigen::Index samples = rows.rows();
  const Vector leading = symmetric_eigen(rows.transpose() * rows).vectors.col(rows.cols() - 1);
  if (samples < 2 * rows.cols()) return leading;
  const Vector signs = (rows * leading).cwiseSign();
  // Columns, then rows, to one length: scales of rows are then nearly gone, and least squares is not ruled by a few.
  const auto inverse = [](double norm) { return norm > 0 ? 1 / norm : 0; };
  const Vector columns = rows.colwise().norm().transpose().unaryExpr(inverse);
  rows = rows * columns.asDiagonal();
  rows = Vector(rows.rowwise().norm().unaryExpr(inverse)).asDiagonal() * rows;
  return columns.asDiagonal() * Vector(least_squares(rows, signs).col(0));
}

Finding find_row_sums(const StepView& view, const StepTruth& truth, Random& random) {
  const int64_t channels = truth.x.channels;
  const Vector sums =
      truth.x.positions() == 1 && channels > 1 ? Vector(truth.x.by_channel().rowwise().sum()) : Vector();
  const bool is_softmax = sums.size() > 0 && (sums.array() - 1).abs().maxCoeff() < 1e-3 &&
                          *std::min_element(truth.x.values.begin(), truth.x.values.end()) >= 0;
  if (!is_softmax) return not_applicable(kNumber, kSums, "rows of X do not sum to one");
  const Vector target = inverse_of(truth.inner) * Vector::Ones(channels);
  Vector guess = guess_inverse_sums(view.x);
  const auto cosine = [&] {
    const double norms = guess.norm() * target.norm();
    return norms > 0 && std::isfinite(norms) ? std::abs(guess.dot(target)) / norms : 0;
  };
  const double score = cosine();
  const Chance chance = measure_chance(kShuffles, [&] {
    std::shuffle(guess.begin(), guess.end(), random);
    return cosine();
  });
  return scored(kNumber, kSums, "|cos| of M^-1 1", score, chance);
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const StepView& view = layer.view.front();
  const StepTruth& truth = layer.truth.front();
  if (view.x.empty() || !view.x.same_shape(truth.x) || truth.inner.rows() != view.x.channels) {
    const char* why = "X was not recorded";
    return {not_applicable(kNumber, kPlace, why), not_applicable(kNumber, kDead, why),
            not_applicable(kNumber, kSums, why)};
  }
  return {find_places(layer, random), count_dead_channels(view, truth), find_row_sums(view, truth, random)};
}

}  // namespace
}  // namespace structure_anchors

const Attack kStructureAnchors{10,
                               "structure anchors",
                               "Do padding, dead channels or sums of rows stand out in what a worker is sent?",
                               "the architecture",
                               "own analysis of padding, rank and row sums",
                               structure_anchors::run};

}  // namespace tempo::audit
