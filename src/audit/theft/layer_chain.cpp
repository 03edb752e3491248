#include "audit/theft/layer_chain.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "audit/algebra/matching.h"
#include "audit/theft/image_layout.h"
#include "audit/theft/positive_fit.h"

namespace tempo::audit {
namespace {

using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A fit that is no better than this does not count.
constexpr double kFits = 3e-2;
/// A shortcut has one coefficient more to fit with, so it must fit this much better.
constexpr double kShortcutGain = 0.3;
/// Images by which channels are linked.
constexpr int64_t kProbes = 6;

/// Every map at mean zero and unit length, unknown pixels zero: [images * channels, pixels].
Floats standardised(const FeatureMaps& maps) {
  Floats out = Floats::Zero(maps.images * maps.channels, maps.pixels());
  for (int64_t m = 0; m < out.rows(); ++m) {
    const double* map = maps.values.data() + m * maps.pixels();
    double sum = 0;
    int64_t known = 0;
    for (int64_t i = 0; i < maps.pixels(); ++i)
      if (std::isfinite(map[i])) sum += map[i], ++known;
    const double mean = sum / static_cast<double>(std::max<int64_t>(1, known));
    for (int64_t i = 0; i < maps.pixels(); ++i)
      if (std::isfinite(map[i])) out(m, i) = static_cast<float>(map[i] - mean);
    const float norm = out.row(m).norm();
    if (norm > 0) out.row(m) /= norm;
  }
  return out;
}

/// Images of one layer's output recognised among those of the next layer's input.
struct ImagePairs {
  std::vector<int64_t> before, after;
};

/// Two images are one if every channel of the first looks like some channel of the second, better than for any other.
ImagePairs pair_images(const FeatureMaps& before, const FeatureMaps& after) {
  ImagePairs pairs;
  if (before.images == 0 || after.images == 0 || before.pixels() != after.pixels()) return pairs;
  const Floats a = standardised(before), b = standardised(after);
  Matrix likeness(before.images, after.images);
  for (int64_t i = 0; i < before.images; ++i) {
    const Floats cosines = (a.middleRows(i * before.channels, before.channels) * b.transpose()).cwiseAbs();
    for (int64_t j = 0; j < after.images; ++j)
      likeness(i, j) = cosines.middleCols(j * after.channels, after.channels).rowwise().maxCoeff().mean();
  }
  const std::vector<int> match = assign(likeness);
  for (int64_t i = 0; i < before.images; ++i) {
    const int j = match[static_cast<size_t>(i)];
    if (j < 0 || likeness(i, j) < likeness.row(i).maxCoeff() || likeness(i, j) < likeness.col(j).maxCoeff()) continue;
    pairs.before.push_back(i);
    pairs.after.push_back(j);
  }
  return pairs;
}

/// Median residual over the probes of one choice of y and s; 1 where it fits nowhere.
double probe_residual(const FeatureMaps& y, int from, const FeatureMaps* s, int shortcut, const FeatureMaps& x,
                      int channel) {
  std::vector<double> residuals;
  for (int64_t i = 0; i < std::min(kProbes, x.images); ++i) {
    const auto fit =
        fit_positive(y.map(i, from), shortcut < 0 ? nullptr : s->map(i, shortcut), x.map(i, channel), x.pixels());
    if (fit) residuals.push_back(fit->residual);
  }
  return residuals.empty() ? 1 : median(residuals);
}

/// Finds y and s of every channel of x by trying all.
ChannelLinks choose_channels(const FeatureMaps& y, const FeatureMaps* s, const FeatureMaps& x) {
  const auto channels = static_cast<Eigen::Index>(x.channels);
  ChannelLinks links{std::vector<int>(static_cast<size_t>(channels), -1),
                     std::vector<int>(static_cast<size_t>(channels), -1),
                     Vector::Zero(channels),
                     Vector::Zero(channels),
                     Vector::Zero(channels),
                     Vector::Ones(channels)};
  for (int c = 0; c < channels; ++c)
    for (int from = 0; from < y.channels; ++from)
      for (int shortcut = -1; shortcut < (s == nullptr ? 0 : s->channels); ++shortcut) {
        const auto at = static_cast<size_t>(c);
        const double residual = probe_residual(y, from, s, shortcut, x, c);
        const bool is_first_shortcut = shortcut >= 0 && links.shortcut[at] < 0;
        if (residual >= links.residual(c) * (is_first_shortcut ? kShortcutGain : 1)) continue;
        links.residual(c) = residual;
        links.from[at] = from;
        links.shortcut[at] = shortcut;
      }
  return links;
}

/// Fits of every image and channel; an entry of `weight` is 0 where there is none.
struct Fits {
  Matrix a, k, b, weight;  // [images, channels]
};

Fits fit_all(const FeatureMaps& y, const FeatureMaps* s, const FeatureMaps& x, ChannelLinks& links) {
  const Matrix none = Matrix::Zero(x.images, x.channels);
  Fits fits{none, none, none, none};
  for (int64_t c = 0; c < x.channels; ++c) {
    const int from = links.from[static_cast<size_t>(c)], shortcut = links.shortcut[static_cast<size_t>(c)];
    if (from < 0) continue;
    std::vector<double> residuals;
    for (int64_t i = 0; i < x.images; ++i) {
      const auto fit =
          fit_positive(y.map(i, from), shortcut < 0 ? nullptr : s->map(i, shortcut), x.map(i, c), x.pixels());
      if (!fit || fit->residual > kFits) continue;
      residuals.push_back(fit->residual);
      fits.a(i, c) = fit->a;
      fits.k(i, c) = fit->k;
      fits.b(i, c) = fit->b;
      fits.weight(i, c) = 1;
    }
    links.residual(c) = residuals.empty() ? 1 : median(residuals);
  }
  return fits;
}

/// u of  values = u v^T  where `weight` is 1, by alternating least squares; of unit mean square, mostly positive.
Vector rank_one_rows(const Matrix& values, const Matrix& weight) {
  constexpr int kIterations = 60;
  const Matrix known = values.cwiseProduct(weight);
  Vector u = Vector::Ones(values.rows());
  const auto divided = [](double sum, double squares) { return squares > 0 ? sum / squares : 0; };
  for (int i = 0; i < kIterations; ++i) {
    const Vector v = (known.transpose() * u).binaryExpr(weight.transpose() * u.cwiseAbs2(), divided);
    u = (known * v).binaryExpr(weight * v.cwiseAbs2(), divided);
    const double size = std::sqrt(u.squaredNorm() / static_cast<double>(std::max<Eigen::Index>(1, u.size())));
    if (!(size > 0)) return Vector::Ones(values.rows());
    u /= size;
  }
  return median(std::vector<double>(u.begin(), u.end())) < 0 ? Vector(-u) : u;
}

/// By channel the median over images of values less the factors of images.
Vector median_over_images(const Matrix& values, const Matrix& weight, const Vector& factor) {
  Vector out = Vector::Zero(values.cols());
  for (Eigen::Index c = 0; c < values.cols(); ++c) {
    std::vector<double> each;
    for (Eigen::Index i = 0; i < values.rows(); ++i)
      if (weight(i, c) > 0 && factor(i) != 0) each.push_back(values(i, c) / factor(i));
    out(c) = median(std::move(each));
  }
  return out;
}

void divide_images(FeatureMaps& maps, const Vector& factor) {
  for (int64_t i = 0; i < maps.images; ++i)
    for (int64_t m = 0; m < maps.channels * maps.pixels(); ++m) maps.map(i, 0)[m] /= factor(i);
}

Operand signed_weight(const Operand& w, const Vector& channel_signs) {
  Operand out = w;
  for (size_t i = 0; i < out.values.size(); ++i)
    out.values[i] *= static_cast<float>(channel_signs(static_cast<Eigen::Index>(i % static_cast<size_t>(w.channels))));
  return out;
}

ChainedLayer laid_out(const LayerCase& layer, Random& random) {
  const ImageLayout layout = lay_out_images(layer, random);
  ChainedLayer out;
  out.x = input_maps(layer, layout);
  out.y = output_maps(layer, layout);
  out.w = signed_weight(layer.view.front().w, layout.channel_signs);
  out.stride = layer.stride;
  out.adds_shortcut = layer.adds_shortcut;
  for (const auto& image : layout.images)
    out.first_row.push_back(*std::find_if(image.row.begin(), image.row.end(), [](int64_t row) { return row >= 0; }));
  return out;
}

void keep_images(ChainedLayer& layer, const std::vector<int64_t>& images) {
  layer.x = take_images(layer.x, images);
  layer.y = take_images(layer.y, images);
  std::vector<int64_t> rows;
  for (const int64_t i : images) rows.push_back(layer.first_row[static_cast<size_t>(i)]);
  layer.first_row = std::move(rows);
}

/// Appends a layer, with the images that both the chain and it have.
void append(LayerChain& chain, ChainedLayer next) {
  const ImagePairs pairs = pair_images(chain.layers.back().y, next.x);
  for (ChainedLayer& layer : chain.layers) keep_images(layer, pairs.before);
  keep_images(next, pairs.after);
  chain.layers.push_back(std::move(next));
}

/// Links the channels of layer `to` with those before, and undoes its factors of images; for the first link also those
/// of the first layer.
void link(LayerChain& chain, size_t to) {
  ChainedLayer& before = chain.layers[to - 1];
  ChainedLayer& layer = chain.layers[to];
  FeatureMaps shortcut;
  if (before.adds_shortcut && to >= 2) shortcut = subsampled(chain.layers[to - 2].x, chain.layers[to - 2].stride);
  const FeatureMaps* s = shortcut.images > 0 && shortcut.pixels() == layer.x.pixels() ? &shortcut : nullptr;
  layer.links = choose_channels(before.y, s, layer.x);
  const Fits fits = fit_all(before.y, s, layer.x, layer.links);
  const Vector factor = rank_one_rows(fits.b, fits.weight);
  if (to == 1) {
    const Vector first = factor.cwiseQuotient(rank_one_rows(fits.a, fits.weight));
    divide_images(before.x, first);
    divide_images(before.y, first);
    layer.links.a = median_over_images(fits.a, fits.weight, factor.cwiseQuotient(first));
  } else {
    layer.links.a = median_over_images(fits.a, fits.weight, factor);  // factors of `before` are undone already
  }
  layer.links.k = median_over_images(fits.k, fits.weight, factor);
  layer.links.b = median_over_images(fits.b, fits.weight, factor);
  divide_images(layer.x, factor);
  divide_images(layer.y, factor);
}

}  // namespace

LayerChain follow_layers(std::span<const LayerCase* const> layers, Random& random) {
  LayerChain chain;
  for (const LayerCase* layer : layers) {
    ChainedLayer next = laid_out(*layer, random);
    if (chain.layers.empty())
      chain.layers.push_back(std::move(next));
    else
      append(chain, std::move(next));
  }
  if (chain.images() == 0) return chain;
  for (size_t i = 1; i < chain.layers.size(); ++i) link(chain, i);
  return chain;
}

}  // namespace tempo::audit
