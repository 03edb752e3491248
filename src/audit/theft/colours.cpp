#include <algorithm>
#include <cmath>

#include "audit/algebra/decompositions.h"
#include "audit/theft/first_layer.h"

namespace tempo::audit {
namespace {

constexpr int64_t kColours = 3;
constexpr int kSamples = 3000, kDirections = 16, kQuantiles = 40;
constexpr int kStarts = 200, kRefined = 6, kRefinements = 300;
/// What steps between pixels count for beside colours: they do not depend on what a picture shows.
constexpr double kStepWeight = 4;

/// Colours of single pixels, and their steps to the right: [samples, 3] each.
struct ColourSample {
  Matrix pixels, steps;
};

Vector pixel_of(const FeatureMaps& maps, int64_t image, int64_t at) {
  Vector v(kColours);
  for (int64_t q = 0; q < kColours; ++q) v(q) = maps.map(image, q)[at];
  return v;
}

/// Pixels that a solution left free lie far from all others.
class Plausible {
 public:
  explicit Plausible(const FeatureMaps& maps) {
    for (int64_t q = 0; q < kColours; ++q) {
      std::vector<double> values;
      for (int64_t i = 0; i < maps.images; ++i)
        for (int64_t p = 0; p < maps.pixels(); p += 3)
          if (std::isfinite(maps.map(i, q)[p])) values.push_back(maps.map(i, q)[p]);
      if (values.empty()) values.push_back(0);
      middle_[q] = median(values);
      for (double& v : values) v = std::abs(v - middle_[q]);
      spread_[q] = median(values);
    }
  }
  [[nodiscard]] bool operator()(const Vector& colour) const {
    constexpr double kFar = 12;
    for (int64_t q = 0; q < kColours; ++q)
      if (!(std::abs(colour(q) - middle_[q]) <= kFar * spread_[q])) return false;
    return true;
  }

 private:
  double middle_[kColours]{}, spread_[kColours]{};
};

ColourSample sample_colours(const FeatureMaps& maps, Random& random) {
  const Plausible plausible(maps);
  std::uniform_int_distribution<int64_t> image(0, maps.images - 1);
  std::uniform_int_distribution<int64_t> y(kUncertainBorder, maps.height - 1 - kUncertainBorder);
  std::uniform_int_distribution<int64_t> x(kUncertainBorder, maps.width - 2 - kUncertainBorder);
  ColourSample out{Matrix(kSamples, kColours), Matrix(kSamples, kColours)};
  int count = 0;
  constexpr int kMostTries = 50;
  for (int tries = 0; count < kSamples && tries < kMostTries * kSamples; ++tries) {
    const int64_t i = image(random), at = y(random) * maps.width + x(random);
    const Vector here = pixel_of(maps, i, at), beside = pixel_of(maps, i, at + 1);
    // Padding that augmentation put in is flat: it is no picture.
    if (!plausible(here) || !plausible(beside) || (here - beside).squaredNorm() <= 1e-10 * here.squaredNorm()) continue;
    out.pixels.row(count) = here.transpose();
    out.steps.row(count++) = (beside - here).transpose();
  }
  out.pixels.conservativeResize(count, kColours);
  out.steps.conservativeResize(count, kColours);
  return out;
}

struct Moments {
  Vector mean;
  Matrix root, inverse_root;  ///< of the covariance: covariance = root root^T
};

Moments moments_of(const Matrix& samples) {
  Moments m;
  m.mean = samples.colwise().mean().transpose();
  const Matrix centred = samples.rowwise() - m.mean.transpose();
  const EigenPairs pairs = symmetric_eigen(centred.transpose() * centred / static_cast<double>(samples.rows()));
  const Vector roots = pairs.values.cwiseMax(1e-300).cwiseSqrt();
  m.root = pairs.vectors * roots.asDiagonal();
  m.inverse_root = roots.cwiseInverse().asDiagonal() * pairs.vectors.transpose();
  return m;
}

/// How two samples differ along fixed directions: a sliced Wasserstein distance by quantiles.
class ColourDistance {
 public:
  ColourDistance(const ColourSample& mixed, const ColourSample& others, Random& random)
      : mixed_(mixed), directions_(random_gaussian(kColours, kDirections, random)) {
    directions_.colwise().normalize();
    pixels_ = quantiles(others.pixels * directions_);
    steps_ = quantiles(others.steps * directions_);
  }
  [[nodiscard]] double operator()(const ColourMap& map) const {
    const Matrix turned = map.matrix.transpose() * directions_;
    Matrix pixels = mixed_.pixels * turned;
    pixels.rowwise() += map.offset.transpose() * directions_;
    return (quantiles(pixels) - pixels_).squaredNorm() +
           kStepWeight * (quantiles(mixed_.steps * turned) - steps_).squaredNorm();
  }

 private:
  static Matrix quantiles(const Matrix& samples) {
    Matrix out(kQuantiles, samples.cols());
    std::vector<double> column(static_cast<size_t>(samples.rows()));
    for (Eigen::Index d = 0; d < samples.cols(); ++d) {
      for (Eigen::Index i = 0; i < samples.rows(); ++i) column[static_cast<size_t>(i)] = samples(i, d);
      std::sort(column.begin(), column.end());
      for (int q = 0; q < kQuantiles; ++q)
        out(q, d) = column[static_cast<size_t>((q + 0.5) / kQuantiles * static_cast<double>(column.size()))];
    }
    return out;
  }

  const ColourSample& mixed_;
  Matrix directions_, pixels_, steps_;
};

struct Candidate {
  ColourMap map;
  double distance = 0;
};

/// Small random changes of all coefficients, kept where they help.
void refine(Candidate& candidate, const ColourDistance& distance, const Moments& others, const Moments& mixed,
            Random& random) {
  constexpr double kLargest = 0.3, kShrinks = 0.98;
  double size = kLargest;
  for (int i = 0; i < kRefinements; ++i, size *= kShrinks) {
    ColourMap changed = candidate.map;
    const Matrix turn = Matrix::Identity(kColours, kColours) + size * random_gaussian(kColours, kColours, random);
    changed.matrix = others.root * turn * others.root.inverse() * candidate.map.matrix;
    const Vector middle = candidate.map.matrix * mixed.mean + candidate.map.offset;
    changed.offset =
        middle + size * others.root * Vector(random_gaussian(kColours, 1, random)) - changed.matrix * mixed.mean;
    const double now = distance(changed);
    if (now < candidate.distance) candidate = {changed, now};
  }
}

}  // namespace

ColourMap match_colours(const FeatureMaps& mixed, const FeatureMaps& others, Random& random) {
  const ColourSample mixed_sample = sample_colours(mixed, random), other_sample = sample_colours(others, random);
  ColourMap nothing{Matrix::Identity(kColours, kColours), Vector::Zero(kColours)};
  if (mixed_sample.pixels.rows() < kQuantiles || other_sample.pixels.rows() < kQuantiles) return nothing;
  const Moments from = moments_of(mixed_sample.pixels), to = moments_of(other_sample.pixels);
  const ColourDistance distance(mixed_sample, other_sample, random);
  std::vector<Candidate> candidates;
  for (int i = 0; i < kStarts; ++i) {
    Candidate one;
    one.map.matrix = to.root * random_orthogonal(kColours, random) * from.inverse_root;
    one.map.offset = to.mean - one.map.matrix * from.mean;
    one.distance = distance(one.map);
    candidates.push_back(std::move(one));
  }
  const auto nearer = [](const Candidate& a, const Candidate& b) { return a.distance < b.distance; };
  std::sort(candidates.begin(), candidates.end(), nearer);
  candidates.resize(kRefined);
  for (Candidate& one : candidates) refine(one, distance, to, from, random);
  return std::min_element(candidates.begin(), candidates.end(), nearer)->map;
}

ColourMap known_colours(const FeatureMaps& mixed, const FeatureMaps& truth) {
  const Plausible plausible(mixed);
  std::vector<std::pair<Vector, Vector>> pairs;
  for (int64_t i = 0; i < mixed.images; ++i)
    for (int64_t y = kUncertainBorder; y < mixed.height - kUncertainBorder; ++y)
      for (int64_t x = kUncertainBorder; x < mixed.width - kUncertainBorder; ++x) {
        const Vector colour = pixel_of(mixed, i, y * mixed.width + x);
        if (plausible(colour)) pairs.emplace_back(colour, pixel_of(truth, i, y * truth.width + x));
      }
  Matrix a(static_cast<Eigen::Index>(pairs.size()), kColours + 1), b(a.rows(), kColours);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto row = static_cast<Eigen::Index>(i);
    a.row(row) << pairs[i].first.transpose(), 1;
    b.row(row) = pairs[i].second.transpose();
  }
  const Matrix solution = least_squares(a, b);
  return {solution.topRows(kColours).transpose(), solution.row(kColours).transpose()};
}

}  // namespace tempo::audit
