#include "audit/theft/first_layer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/sparse_least_squares.h"
#include "audit/theft/colour_statistics.h"

namespace tempo::audit {
namespace {

constexpr int64_t kSide = 5;            // of a patch of maps
constexpr int64_t kPixels = kSide + 2;  // side of the image patch under it
constexpr int64_t kTaps = 9;
constexpr int64_t kPatchDimensions = kColours * kPixels * kPixels;
constexpr int64_t kMostChannels = 8, kFewestChannels = 6;
constexpr int64_t kMostPatches = 20'000, kFewestPatches = 400;

/// Patches that are positive in every one of some channels.
struct Patches {
  struct Place {
    int64_t image, y, x;
  };
  std::vector<int64_t> channels;
  std::vector<Place> places;
  Matrix values;  ///< [patches, channels * side * side]
};

std::vector<Patches::Place> positive_places(const FeatureMaps& maps, const std::vector<int64_t>& channels) {
  std::vector<Patches::Place> places;
  std::vector<int> positive(static_cast<size_t>(maps.pixels()));
  for (int64_t i = 0; i < maps.images; ++i) {
    for (int64_t p = 0; p < maps.pixels(); ++p)
      positive[static_cast<size_t>(p)] =
          std::all_of(channels.begin(), channels.end(), [&](int64_t c) { return maps.map(i, c)[p] > 0; }) ? 1 : 0;
    const auto all_positive = [&](int64_t y0, int64_t x0) {
      for (int64_t y = y0; y < y0 + kSide; ++y)
        for (int64_t x = x0; x < x0 + kSide; ++x)
          if (positive[static_cast<size_t>(y * maps.width + x)] == 0) return false;
      return true;
    };
    for (int64_t y = 0; y + kSide <= maps.height; ++y)
      for (int64_t x = 0; x + kSide <= maps.width; ++x)
        if (all_positive(y, x)) places.push_back({i, y, x});
  }
  return places;
}

/// Share of known pixels that are positive, by channel.
std::vector<double> liveliness(const FeatureMaps& maps) {
  std::vector<double> live;
  for (int64_t c = 0; c < maps.channels; ++c) {
    int64_t known = 0, positive = 0;
    for (int64_t i = 0; i < maps.images; ++i)
      for (int64_t p = 0; p < maps.pixels(); ++p) {
        const double v = maps.map(i, c)[p];
        known += std::isfinite(v) ? 1 : 0;
        positive += v > 0 ? 1 : 0;
      }
    live.push_back(known > 0 ? static_cast<double>(positive) / static_cast<double>(known) : 0);
  }
  return live;
}

std::optional<Patches> choose_patches(const FeatureMaps& maps, Random& random) {
  const std::vector<double> live = liveliness(maps);
  std::vector<int64_t> order(live.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int64_t a, int64_t b) { return live[static_cast<size_t>(a)] > live[static_cast<size_t>(b)]; });
  Patches patches;
  for (int64_t count = kMostChannels; count >= kFewestChannels; --count) {
    if (static_cast<int64_t>(order.size()) < count) continue;
    patches.channels.assign(order.begin(), order.begin() + count);
    patches.places = positive_places(maps, patches.channels);
    if (static_cast<int64_t>(patches.places.size()) >= kFewestPatches) break;
  }
  if (static_cast<int64_t>(patches.places.size()) < kFewestPatches) return std::nullopt;
  std::shuffle(patches.places.begin(), patches.places.end(), random);
  if (static_cast<int64_t>(patches.places.size()) > kMostPatches) patches.places.resize(kMostPatches);
  const auto channels = static_cast<int64_t>(patches.channels.size());
  patches.values.resize(static_cast<Eigen::Index>(patches.places.size()), channels * kSide * kSide);
  for (size_t r = 0; r < patches.places.size(); ++r) {
    const Patches::Place& at = patches.places[r];
    for (int64_t c = 0; c < channels; ++c) {
      const double* map = maps.map(at.image, patches.channels[static_cast<size_t>(c)]);
      for (int64_t i = 0; i < kSide * kSide; ++i)
        patches.values(static_cast<Eigen::Index>(r), c * kSide * kSide + i) =
            map[(at.y + i / kSide) * maps.width + at.x + i % kSide];
    }
  }
  return patches;
}

/// Kernels [channels, 27] that span the space of the patches, up to an invertible mix of colours. What lies outside
/// this space is orthogonal to every shift of every kernel: a quadratic form in the kernels, of which the three
/// smallest eigenvectors are taken (subspace identification of filters: Moulines, Duhamel, Cardoso and Mayrargue,
/// 1995).
Matrix kernels_of(const Patches& patches) {
  const auto channels = static_cast<int64_t>(patches.channels.size());
  const Eigen::Index size = patches.values.cols();
  const Eigen::RowVectorXd mean = patches.values.colwise().mean();
  Vector scale(size);
  for (Eigen::Index i = 0; i < size; ++i) {
    const Eigen::Index c = i / (kSide * kSide) * (kSide * kSide);
    scale(i) = std::sqrt(
        (patches.values.middleCols(c, kSide * kSide).rowwise() - mean.segment(c, kSide * kSide)).squaredNorm() /
        static_cast<double>(patches.values.rows() * kSide * kSide));
  }
  const Matrix centred = (patches.values.rowwise() - mean) * scale.cwiseInverse().asDiagonal();
  const EigenPairs pairs = symmetric_eigen(centred.transpose() * centred);
  const Matrix outside =
      pairs.vectors.leftCols(size - kPatchDimensions).transpose();  // [noise, channels * side * side]
  Matrix form = Matrix::Zero(channels * kTaps, channels * kTaps);
  for (int64_t py = 0; py < kPixels; ++py)
    for (int64_t px = 0; px < kPixels; ++px) {
      Matrix reach = Matrix::Zero(outside.rows(), channels * kTaps);
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        const int64_t y = py - tap / 3, x = px - tap % 3;
        if (y < 0 || x < 0 || y >= kSide || x >= kSide) continue;
        for (int64_t c = 0; c < channels; ++c)
          reach.col(c * kTaps + tap) = outside.col(c * kSide * kSide + y * kSide + x);
      }
      form += reach.transpose() * reach;
    }
  const Matrix smallest = symmetric_eigen(form).vectors.leftCols(kColours);
  Matrix kernels(channels, kTaps * kColours);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t tap = 0; tap < kTaps; ++tap)
      kernels.block(c, tap * kColours, 1, kColours) = smallest.row(c * kTaps + tap) * scale(c * kSide * kSide);
  return kernels;
}

/// The matrix that takes an image patch [pixels * pixels * colours] to the patch of maps.
Matrix filter_matrix(const Matrix& kernels) {
  Matrix filter = Matrix::Zero(kernels.rows() * kSide * kSide, kPatchDimensions);
  for (Eigen::Index c = 0; c < kernels.rows(); ++c)
    for (int64_t i = 0; i < kSide * kSide; ++i)
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        const int64_t y = i / kSide + tap / 3, x = i % kSide + tap % 3;
        filter.block(c * kSide * kSide + i, (y * kPixels + x) * kColours, 1, kColours) =
            kernels.block(c, tap * kColours, 1, kColours);
      }
  return filter;
}

/// The bias of every channel, up to what a constant colour would add.
Vector biases_of(const Patches& patches, const Matrix& filter) {
  const auto channels = static_cast<int64_t>(patches.channels.size());
  const Eigen::Index size = filter.rows();
  Matrix ones = Matrix::Zero(size, channels);
  for (Eigen::Index i = 0; i < size; ++i) ones(i, i / (kSide * kSide)) = 1;
  const Matrix basis = full_svd(filter).u.leftCols(kPatchDimensions);
  const auto outside = [&](const Matrix& m) -> Matrix { return m - basis * (basis.transpose() * m); };
  const Matrix a = outside(ones);
  const Vector right = outside(patches.values.colwise().mean().transpose());
  const EigenPairs pairs = symmetric_eigen(a.transpose() * a);
  Vector bias = Vector::Zero(channels);
  constexpr double kFloor = 1e-9;
  for (int64_t i = 0; i < channels; ++i)
    if (pairs.values(i) > kFloor * pairs.values(channels - 1))
      bias += pairs.vectors.col(i) * (pairs.vectors.col(i).dot(a.transpose() * right) / pairs.values(i));
  return bias;
}

/// Image patches under the patches of maps: [patches, pixels * pixels * colours].
Matrix image_patches(const Patches& patches, const Matrix& filter, const Vector& bias) {
  Matrix right = patches.values.transpose();
  for (Eigen::Index i = 0; i < right.rows(); ++i) right.row(i).array() -= bias(i / (kSide * kSide));
  return least_squares(filter, right).transpose();
}

/// A channel that was not among the first: its kernel by regression on the image patches.
bool add_channel(FirstLayer& layer, const FeatureMaps& maps, int64_t channel, const Patches& patches,
                 const Matrix& pixels) {
  constexpr int64_t kMostEquations = 20'000, kFewestEquations = 60;
  Matrix a(kMostEquations, kTaps * kColours + 1);
  Vector right(kMostEquations);
  int64_t equations = 0;
  for (size_t r = 0; r < patches.places.size(); ++r) {
    const Patches::Place& at = patches.places[r];
    for (int64_t i = 0; i < kSide * kSide && equations < kMostEquations; ++i) {
      const double v = maps.map(at.image, channel)[(at.y + i / kSide) * maps.width + at.x + i % kSide];
      if (!(v > 0) || !std::isfinite(v)) continue;
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        const int64_t pixel = (i / kSide + tap / 3) * kPixels + i % kSide + tap % 3;
        a.block(equations, tap * kColours, 1, kColours) =
            pixels.block(static_cast<Eigen::Index>(r), pixel * kColours, 1, kColours);
      }
      a(equations, kTaps * kColours) = 1;
      right(equations++) = v;
    }
  }
  if (equations < kFewestEquations) return false;
  const Vector solution = least_squares(a.topRows(equations), right.head(equations));
  if (!solution.allFinite()) return false;
  layer.kernels.row(channel) = solution.head(kTaps * kColours).transpose();
  layer.bias(channel) = solution(kTaps * kColours);
  return true;
}

/// One image from all positive values of its maps.
void solve_image(FirstLayer& layer, const FeatureMaps& maps, int64_t image) {
  SparseEquations equations(maps.pixels() * kColours);
  for (int64_t c = 0; c < maps.channels; ++c) {
    if (!layer.is_known[static_cast<size_t>(c)]) continue;
    const double scale = 1 / layer.kernels.row(c).norm();
    // Padding is zero in true colours, not in mixed ones: the outermost values are left out.
    for (int64_t y = 1; y + 1 < maps.height; ++y)
      for (int64_t x = 1; x + 1 < maps.width; ++x) {
        const double v = maps.map(image, c)[y * maps.width + x];
        if (!(v > 0) || !std::isfinite(v)) continue;
        std::vector<SparseEquations::Term> terms;
        for (int64_t tap = 0; tap < kTaps; ++tap)
          for (int64_t q = 0; q < kColours; ++q)
            terms.push_back({((y + tap / 3 - 1) * maps.width + x + tap % 3 - 1) * kColours + q,
                             layer.kernels(c, tap * kColours + q) * scale});
        equations.add(terms, (v - layer.bias(c)) * scale);
      }
  }
  constexpr double kRidge = 1e-10;
  const Vector pixels = equations.solve(kRidge);
  for (int64_t q = 0; q < kColours; ++q)
    for (int64_t p = 0; p < maps.pixels(); ++p) layer.images.map(image, q)[p] = pixels(p * kColours + q);
}

}  // namespace

std::optional<FirstLayer> recover_first_layer(const FeatureMaps& maps, Random& random) {
  const auto patches = choose_patches(maps, random);
  if (!patches) return std::nullopt;
  const Matrix kernels = kernels_of(*patches);
  const Matrix filter = filter_matrix(kernels);
  const Vector bias = biases_of(*patches, filter);
  const Matrix pixels = image_patches(*patches, filter, bias);
  FirstLayer layer{Matrix::Zero(maps.channels, kTaps * kColours), Vector::Zero(maps.channels),
                   std::vector<bool>(static_cast<size_t>(maps.channels), false),
                   FeatureMaps(maps.images, kColours, maps.height, maps.width)};
  for (size_t i = 0; i < patches->channels.size(); ++i) {
    const int64_t c = patches->channels[i];
    layer.kernels.row(c) = kernels.row(static_cast<Eigen::Index>(i));
    layer.bias(c) = bias(static_cast<Eigen::Index>(i));
    layer.is_known[static_cast<size_t>(c)] = true;
  }
  for (int64_t c = 0; c < maps.channels; ++c)
    if (!layer.is_known[static_cast<size_t>(c)])
      layer.is_known[static_cast<size_t>(c)] = add_channel(layer, maps, c, *patches, pixels);
  for (int64_t i = 0; i < maps.images; ++i) solve_image(layer, maps, i);
  return layer;
}

FirstLayer in_colours(const FirstLayer& layer, const ColourMap& colours) {
  // mixed = matrix^-1 (colour - offset)
  FirstLayer out = layer;
  const Matrix undo = inverse_of(colours.matrix);
  const Vector shift = undo * colours.offset;
  for (Eigen::Index c = 0; c < layer.kernels.rows(); ++c)
    for (int64_t tap = 0; tap < kTaps; ++tap) {
      const Eigen::RowVectorXd kernel = layer.kernels.block(c, tap * kColours, 1, kColours);
      out.kernels.block(c, tap * kColours, 1, kColours) = kernel * undo;
      out.bias(c) -= kernel.dot(shift);
    }
  for (int64_t i = 0; i < layer.images.images; ++i)
    for (int64_t p = 0; p < layer.images.pixels(); ++p) {
      Vector mixed(kColours);
      for (int64_t q = 0; q < kColours; ++q) mixed(q) = layer.images.map(i, q)[p];
      const Vector colour = colours.matrix * mixed + colours.offset;
      for (int64_t q = 0; q < kColours; ++q) out.images.map(i, q)[p] = colour(q);
    }
  return out;
}

}  // namespace tempo::audit
