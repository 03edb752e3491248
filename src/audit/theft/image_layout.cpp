#include "audit/theft/image_layout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <queue>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/ownership.h"
#include "audit/theft/tile_overlap.h"

namespace tempo::audit {
namespace {

constexpr int64_t kSignSamples = 40'000;

/// Rows as points of a grid that is joined by what they share.
class TileGraph {
 public:
  explicit TileGraph(int64_t rows) : edges_(static_cast<size_t>(rows)) {}

  void join(const std::vector<Neighbours>& pairs, Direction direction) {
    const int dx = direction == Direction::kRight ? 1 : 0, dy = 1 - dx;
    for (const Neighbours& pair : pairs) {
      edges_[static_cast<size_t>(pair.first)].push_back({pair.second, dy, dx, pair.log_ratio});
      edges_[static_cast<size_t>(pair.second)].push_back({pair.first, -dy, -dx, -pair.log_ratio});
    }
  }

  /// Rows that hang together, with their places relative to the first one.
  struct Component {
    std::vector<int64_t> row;
    std::vector<int64_t> y, x;
    std::vector<double> log_scale;
  };
  [[nodiscard]] std::vector<Component> components() const {
    std::vector<Component> all;
    std::vector<int64_t> place(edges_.size(), -1);
    for (size_t root = 0; root < edges_.size(); ++root)
      if (place[root] < 0) all.push_back(component_of(static_cast<int64_t>(root), place));
    return all;
  }

 private:
  struct Edge {
    int64_t to;
    int dy, dx;
    double log_ratio;
  };

  /// @param place by row: its place in its component, -1 while it is in none.
  [[nodiscard]] Component component_of(int64_t root, std::vector<int64_t>& place) const {
    Component out{{root}, {0}, {0}, {0}};
    place[static_cast<size_t>(root)] = 0;
    for (size_t i = 0; i < out.row.size(); ++i)
      for (const Edge& edge : edges_[static_cast<size_t>(out.row[i])]) {
        int64_t& there = place[static_cast<size_t>(edge.to)];
        if (there >= 0) continue;
        there = static_cast<int64_t>(out.row.size());
        out.row.push_back(edge.to);
        out.y.push_back(out.y[i] + edge.dy);
        out.x.push_back(out.x[i] + edge.dx);
        out.log_scale.push_back(out.log_scale[i] + edge.log_ratio);
      }
    smooth(out, place);
    return out;
  }

  /// Ratios that were rounded disagree around a loop; every row takes the mean of what its neighbours say of it.
  void smooth(Component& component, const std::vector<int64_t>& place) const {
    constexpr int kSweeps = 60;
    std::vector<double>& scale = component.log_scale;
    for (int sweep = 0; sweep < kSweeps; ++sweep)
      for (size_t i = 0; i < scale.size(); ++i) {
        const auto& edges = edges_[static_cast<size_t>(component.row[i])];
        double sum = 0;
        for (const Edge& edge : edges)
          sum += scale[static_cast<size_t>(place[static_cast<size_t>(edge.to)])] - edge.log_ratio;
        if (!edges.empty()) scale[i] = sum / static_cast<double>(edges.size());
      }
  }

  std::vector<std::vector<Edge>> edges_;
};

/// Whether the first or last line of a row's tile is zero throughout, as the padding of an image is.
bool is_zero_line(const Operand& x, int64_t row, bool vertical, bool last) {
  const int64_t lines = vertical ? x.height : x.width, line = last ? lines - 1 : 0;
  const int64_t length = vertical ? x.width : x.height;
  for (int64_t i = 0; i < length; ++i)
    for (int64_t c = 0; c < x.channels; ++c)
      if (x.at(row, vertical ? line * x.width + i : i * x.width + line, c) != 0) return false;
  return true;
}

/// How far the places along one axis are to be moved so that they fill 0 .. tiles - 1; nothing if that cannot be told.
std::optional<int64_t> shift_along(const Operand& x, const TileGraph::Component& part, bool vertical, int64_t tiles) {
  const std::vector<int64_t>& place = vertical ? part.y : part.x;
  const auto [low, high] = std::minmax_element(place.begin(), place.end());
  const int64_t extent = *high - *low + 1;
  if (extent > tiles) return std::nullopt;
  if (extent == tiles) return -*low;
  const auto is_padding = [&](int64_t at, bool last) {
    for (size_t i = 0; i < place.size(); ++i)
      if (place[i] == at && !is_zero_line(x, part.row[i], vertical, last)) return false;
    return true;
  };
  if (is_padding(*low, false)) return -*low;
  if (is_padding(*high, true)) return tiles - 1 - *high;
  return std::nullopt;
}

std::optional<ImageLayout::Image> place_in_image(const Operand& x, const TileGraph::Component& part, int64_t tiles_y,
                                                 int64_t tiles_x, const std::vector<float>& row_signs) {
  const auto dy = shift_along(x, part, true, tiles_y), dx = shift_along(x, part, false, tiles_x);
  if (!dy || !dx) return std::nullopt;
  const auto tiles = static_cast<size_t>(tiles_y * tiles_x);
  ImageLayout::Image image{std::vector<int64_t>(tiles, -1), std::vector<double>(tiles, 0)};
  const double mean =
      std::accumulate(part.log_scale.begin(), part.log_scale.end(), 0.0) / static_cast<double>(part.log_scale.size());
  for (size_t i = 0; i < part.row.size(); ++i) {
    const auto tile = static_cast<size_t>((part.y[i] + *dy) * tiles_x + part.x[i] + *dx);
    if (image.row[tile] >= 0) return std::nullopt;  // two rows in one place: a pair was wrong
    image.row[tile] = part.row[i];
    image.scale[tile] = std::exp(part.log_scale[i] - mean) * row_signs[static_cast<size_t>(part.row[i])];
  }
  return image;
}

void undo_signs(Operand& x, const RankOneSigns& signs) {
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t p = 0; p < x.positions(); ++p)
      for (int64_t c = 0; c < x.channels; ++c)
        x.at(r, p, c) *= signs.rows[static_cast<size_t>(r)] * static_cast<float>(signs.channels(c));
}

/// Copies tiles of a laid-out operand into maps. @param step pixels between tiles. @param offset padding before them.
void fill_maps(FeatureMaps& maps, const Operand& operand, const ImageLayout& layout, int64_t tiles_x, int64_t step,
               int64_t offset, const Vector& channel_signs) {
  for (size_t i = 0; i < layout.images.size(); ++i) {
    const ImageLayout::Image& image = layout.images[i];
    for (size_t tile = 0; tile < image.row.size(); ++tile) {
      if (image.row[tile] < 0) continue;
      const int64_t y0 = static_cast<int64_t>(tile) / tiles_x * step - offset;
      const int64_t x0 = static_cast<int64_t>(tile) % tiles_x * step - offset;
      for (int64_t p = 0; p < operand.positions(); ++p) {
        const int64_t y = y0 + p / operand.width, x = x0 + p % operand.width;
        if (y < 0 || x < 0 || y >= maps.height || x >= maps.width) continue;
        for (int64_t c = 0; c < maps.channels; ++c)
          maps.map(static_cast<int64_t>(i), c)[y * maps.width + x] =
              operand.at(image.row[tile], p, c) * channel_signs(c) / image.scale[tile];
      }
    }
  }
}

}  // namespace

RankOneSigns rank_one_signs(const Operand& x, Random& random) {
  const int64_t vectors = x.rows * x.positions();
  std::uniform_int_distribution<int64_t> any(0, std::max<int64_t>(0, vectors - 1));
  const int64_t count = std::min(vectors, kSignSamples);
  Matrix samples(count, x.channels);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = vectors <= kSignSamples ? i : any(random);
    for (int64_t c = 0; c < x.channels; ++c) {
      const float v = x.values[static_cast<size_t>(at * x.channels + c)];
      samples(i, c) = v > 0 ? 1 : v < 0 ? -1 : 0;
    }
  }
  const auto sign = [](double v) { return v < 0 ? -1.0 : 1.0; };
  RankOneSigns signs;
  const EigenPairs pairs = symmetric_eigen(samples.transpose() * samples);
  signs.channels = pairs.vectors.col(x.channels - 1).unaryExpr(sign);
  for (int64_t r = 0; r < x.rows; ++r) {
    double sum = 0;
    for (int64_t p = 0; p < x.positions(); ++p)
      for (int64_t c = 0; c < x.channels; ++c) {
        const float v = x.at(r, p, c);
        sum += (v > 0 ? 1 : v < 0 ? -1 : 0) * signs.channels(c);
      }
    signs.rows.push_back(static_cast<float>(sign(sum)));
  }
  return signs;
}

ImageLayout lay_out_images(const LayerCase& layer, Random& random) {
  Operand x = layer.view.front().x;
  ImageLayout layout;
  if (x.empty()) return layout;
  const RankOneSigns signs = rank_one_signs(x, random);
  layout.channel_signs = signs.channels;
  const int64_t tiles = layer.tiles_y * layer.tiles_x;
  if (tiles == 1) {
    for (int64_t r = 0; r < x.rows; ++r) layout.images.push_back({{r}, {signs.rows[static_cast<size_t>(r)]}});
    return layout;
  }
  undo_signs(x, signs);
  const int64_t step = layer.view.front().y.height * layer.stride;
  TileGraph graph(x.rows);
  for (const Direction direction : {Direction::kRight, Direction::kDown})
    graph.join(find_neighbours(x, step, direction, random), direction);
  for (const TileGraph::Component& part : graph.components()) {
    if (2 * static_cast<int64_t>(part.row.size()) < tiles) continue;
    if (auto image = place_in_image(x, part, layer.tiles_y, layer.tiles_x, signs.rows))
      layout.images.push_back(std::move(*image));
  }
  return layout;
}

FeatureMaps input_maps(const LayerCase& layer, const ImageLayout& layout) {
  const StepView& view = layer.view.front();
  const int64_t step = view.y.height * layer.stride;
  FeatureMaps maps(static_cast<int64_t>(layout.images.size()), view.x.channels, layer.tiles_y * step,
                   layer.tiles_x * step);
  fill_maps(maps, view.x, layout, layer.tiles_x, step, view.w.height / 2, layout.channel_signs);
  return maps;
}

FeatureMaps output_maps(const LayerCase& layer, const ImageLayout& layout) {
  const StepView& view = layer.view.front();
  FeatureMaps maps(static_cast<int64_t>(layout.images.size()), view.y.channels, layer.tiles_y * view.y.height,
                   layer.tiles_x * view.y.width);
  fill_maps(maps, view.y, layout, layer.tiles_x, view.y.height, 0, Vector::Ones(view.y.channels));
  return maps;
}

}  // namespace tempo::audit
