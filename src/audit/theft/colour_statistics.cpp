#include "audit/theft/colour_statistics.h"

#include <algorithm>
#include <cmath>

#include "audit/algebra/decompositions.h"
#include "audit/theft/first_layer.h"

namespace tempo::audit {
namespace {

constexpr int kSamples = 1200, kFewest = 200;
/// The usual augmentation shifts an image by so many pixels at most.
constexpr int64_t kShift = 4;

/// The plausible pixels inside, each with its neighbours on the right and below.
struct Place {
  int64_t image, y, x;
};

std::vector<Place> places_inside(const FeatureMaps& maps, const Plausible& plausible) {
  std::vector<Place> places;
  for (int64_t i = 0; i < maps.images; ++i)
    for (int64_t y = kShift; y < maps.height - kShift - 1; ++y)
      for (int64_t x = kShift; x < maps.width - kShift - 1; ++x) {
        const int64_t at = y * maps.width + x;
        if (plausible(pixel_of(maps, i, at)) && plausible(pixel_of(maps, i, at + 1)) &&
            plausible(pixel_of(maps, i, at + maps.width)))
          places.push_back({i, y, x});
      }
  return places;
}

Whitening whitening_of(const Matrix& colours) {
  Whitening out;
  out.mean = colours.colwise().mean().transpose();
  const Matrix centred = colours.rowwise() - out.mean.transpose();
  const EigenPairs pairs = symmetric_eigen(centred.transpose() * centred / static_cast<double>(colours.rows()));
  const Vector roots = pairs.values.cwiseMax(1e-300).cwiseSqrt();
  out.unwhiten = pairs.vectors * roots.asDiagonal();
  out.whiten = roots.cwiseInverse().asDiagonal() * pairs.vectors.transpose();
  return out;
}

/// @param pixels, steps  one row a place, white: of `steps` the one to the right.
Matrix tendencies_of(const FeatureMaps& maps, const std::vector<Place>& places, const Matrix& pixels,
                     const Matrix& steps) {
  std::vector<double> sizes(places.size());
  for (size_t p = 0; p < places.size(); ++p) sizes[p] = steps.row(static_cast<Eigen::Index>(p)).squaredNorm();
  const double smooth = median(sizes);
  const double middle = static_cast<double>(maps.height - 1) / 2;
  Matrix out = Matrix::Zero(maps.images, 2 * kColours);
  Vector counts = Vector::Zero(maps.images);
  for (size_t p = 0; p < places.size(); ++p) {
    const auto row = pixels.row(static_cast<Eigen::Index>(p));
    const double height = (static_cast<double>(places[p].y) - middle) / middle;
    out.row(places[p].image).leftCols(kColours) += height * row;
    if (sizes[p] < smooth) out.row(places[p].image).rightCols(kColours) += row;
    counts(places[p].image) += 1;
  }
  return counts.cwiseMax(1).cwiseInverse().asDiagonal() * out;
}

/// Lines that augmentation filled have one colour, and it is the same in all images.
std::optional<Vector> edge_of(const FeatureMaps& maps, const Whitening& white) {
  constexpr double kFlat = 0.1, kSame = 0.2;
  const int64_t first = kUncertainBorder, right = maps.width - 1 - first, lower = maps.height - 1 - first;
  const int64_t begins[] = {first * maps.width + first, lower * maps.width + first, first * maps.width + first,
                            first * maps.width + right};
  const int64_t strides[] = {1, 1, maps.width, maps.width};
  const int64_t lengths[] = {right - first + 1, right - first + 1, lower - first + 1, lower - first + 1};
  std::vector<Vector> flat_lines;
  for (int64_t image = 0; image < maps.images; ++image)
    for (int side = 0; side < 4; ++side) {
      Matrix line(lengths[side], kColours);
      for (int64_t i = 0; i < lengths[side]; ++i)
        line.row(i) =
            (white.whiten * (pixel_of(maps, image, begins[side] + i * strides[side]) - white.mean)).transpose();
      const Vector middle = line.colwise().mean().transpose();
      const double spread = (line.rowwise() - middle.transpose()).squaredNorm() / static_cast<double>(lengths[side]);
      if (spread < kFlat * kFlat) flat_lines.push_back(middle);
    }
  if (flat_lines.empty()) return std::nullopt;
  Vector common(kColours);
  for (int64_t q = 0; q < kColours; ++q) {
    std::vector<double> values;
    for (const Vector& line : flat_lines) values.push_back(line(q));
    common(q) = median(values);
  }
  const auto same = std::count_if(flat_lines.begin(), flat_lines.end(),
                                  [&](const Vector& line) { return (line - common).norm() < kSame; });
  // A white background fills lines, too, but of few images.
  if (same < std::max<int64_t>(maps.images / 4, 4)) return std::nullopt;
  return common;
}

}  // namespace

Vector pixel_of(const FeatureMaps& maps, int64_t image, int64_t at) {
  Vector v(kColours);
  for (int64_t q = 0; q < kColours; ++q) v(q) = maps.map(image, q)[at];
  return v;
}

Plausible::Plausible(const FeatureMaps& maps) {
  for (int64_t q = 0; q < kColours; ++q) {
    std::vector<double> values;
    for (int64_t i = 0; i < maps.images; ++i)
      for (int64_t p = 0; p < maps.pixels(); p += 3)
        if (std::isfinite(maps.map(i, q)[p])) values.push_back(maps.map(i, q)[p]);
    middle_[q] = median(values);
    for (double& v : values) v = std::abs(v - middle_[q]);
    spread_[q] = median(values);
  }
}

bool Plausible::operator()(const Vector& colour) const {
  constexpr double kFar = 12;
  for (int64_t q = 0; q < kColours; ++q)
    if (!(std::abs(colour(q) - middle_[q]) <= kFar * spread_[q])) return false;
  return true;
}

std::optional<ColourStatistics> colour_statistics(const FeatureMaps& maps, Random& random) {
  std::vector<Place> places = places_inside(maps, Plausible(maps));
  if (places.size() < kFewest) return std::nullopt;
  std::shuffle(places.begin(), places.end(), random);
  const auto count = static_cast<Eigen::Index>(places.size());
  Matrix here(count, kColours), beside(count, kColours), below(count, kColours);
  for (Eigen::Index p = 0; p < count; ++p) {
    const Place& place = places[static_cast<size_t>(p)];
    const int64_t at = place.y * maps.width + place.x;
    here.row(p) = pixel_of(maps, place.image, at).transpose();
    beside.row(p) = pixel_of(maps, place.image, at + 1).transpose() - here.row(p);
    below.row(p) = pixel_of(maps, place.image, at + maps.width).transpose() - here.row(p);
  }
  ColourStatistics out;
  out.white = whitening_of(here);
  const Matrix white_pixels = (here.rowwise() - out.white.mean.transpose()) * out.white.whiten.transpose();
  const Matrix white_beside = beside * out.white.whiten.transpose();
  out.tendencies = tendencies_of(maps, places, white_pixels, white_beside);
  const Eigen::Index samples = std::min<Eigen::Index>(count, kSamples);
  out.pixels = white_pixels.topRows(samples);
  out.steps.resize(2 * samples, kColours);
  out.steps << white_beside.topRows(samples), below.topRows(samples) * out.white.whiten.transpose();
  out.edge = edge_of(maps, out.white);
  return out;
}

}  // namespace tempo::audit
