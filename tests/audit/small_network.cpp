#include "audit/small_network.h"

#include <algorithm>
#include <cmath>

#include "audit/algebra/matching.h"
#include "audit/plain_tiles.h"
#include "audit/step_blinder.h"
#include "base/secret.h"

namespace tempo::audit::testing {
namespace {

constexpr int64_t kKernel = 3;

/// Smooth colours with a little texture, in whole grey levels: colours of one picture hang together.
Operand make_pictures(int64_t images, int64_t side, Random& random) {
  Operand out(images, side, side, 3);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  for (int64_t i = 0; i < images; ++i) {
    double wave[4][5];
    for (auto& w : wave)
      for (double& v : w) v = normal(random);
    for (int64_t y = 0; y < side; ++y)
      for (int64_t x = 0; x < side; ++x) {
        double bright = 0;
        for (const auto& w : wave)
          bright += w[0] * std::sin(0.3 * (w[1] * static_cast<double>(x) + w[2] * static_cast<double>(y)) + w[3]);
        for (int64_t c = 0; c < 3; ++c) {
          // Red is skewed, blue is dull: the three can be told apart.
          const double own = c == 0 ? std::exp(0.8 * normal(random)) : (c == 1 ? 1.0 : 0.4) * normal(random);
          const double grey =
              110 + 14.0 * static_cast<double>(c) + 25 * bright * (1 + 0.3 * static_cast<double>(c)) + 9 * own;
          out.at(i, y * side + x, c) = static_cast<float>(std::clamp(std::round(grey), 0.0, 255.0));
        }
      }
  }
  return out;
}

Operand random_weight(int64_t out, int64_t in, Random& random) {
  return from_channels(random_gaussian(out * kKernel * kKernel, in, random), out, kKernel, kKernel);
}

/// 3x3, stride 1, padding 1.
Operand convolve(const Operand& x, const Operand& w) {
  Operand y(x.rows, x.height, x.width, w.rows);
  for (int64_t i = 0; i < x.rows; ++i)
    for (int64_t p = 0; p < x.positions(); ++p)
      for (int64_t tap = 0; tap < kKernel * kKernel; ++tap) {
        const int64_t row = p / x.width + tap / kKernel - 1, column = p % x.width + tap % kKernel - 1;
        if (row < 0 || column < 0 || row >= x.height || column >= x.width) continue;
        for (int64_t o = 0; o < w.rows; ++o)
          for (int64_t c = 0; c < x.channels; ++c)
            y.at(i, p, o) += x.at(i, row * x.width + column, c) * w.at(o, tap, c);
      }
  return y;
}

/// max(0, norm of y + shortcut): channels at unit variance and a mean of `shift` deviations and more.
Operand norm_and_relu(const Operand& y, const Operand* shortcut, double shift, Random& random) {
  std::uniform_real_distribution<double> uniform(0, 0.6);
  Matrix values = y.by_channel();
  for (Eigen::Index c = 0; c < values.cols(); ++c) {
    const double mean = values.col(c).mean();
    const double deviation = std::sqrt((values.col(c).array() - mean).square().mean());
    values.col(c) = (values.col(c).array() - mean) / deviation + shift + uniform(random);
  }
  if (shortcut != nullptr) {
    const Eigen::Index padding = (values.cols() - shortcut->channels) / 2;
    values.middleCols(padding, shortcut->channels) += 0.5 * shortcut->by_channel();
  }
  return from_channels(values.cwiseMax(0.0), y.rows, y.height, y.width);
}

LayerCase blinded(const SmallNetworkOptions& options, const BlindingOptions& blinding, const Operand& x,
                  const Operand& w, const Operand& y) {
  const obfuscation::ConvAxis axis{.size = options.side, .kernel = kKernel, .stride = 1, .padding = 1};
  const auto cut = obfuscation::tile_convolution(x.rows, axis, axis, {x.channels, w.rows}, options.tile);
  LayerCase layer;
  layer.tiles_y = cut.input.tiles_y;
  layer.tiles_x = cut.input.tiles_x;
  layer.truth.resize(1);
  StepTruth& truth = layer.truth.front();
  truth.x = plain_tiles(x.values.data(), cut.input);
  truth.w = w;
  truth.y = plain_tiles(y.values.data(), cut.output);
  StepBlinder blinder(blinding, SecretKey::random(), cut.input.rows(), x.channels, w.rows);
  layer.view.push_back(blinder.blind(truth));
  return layer;
}

}  // namespace

SmallNetwork::SmallNetwork(const SmallNetworkOptions& options, const BlindingOptions& blinding) {
  Random random(options.seed);
  const Operand pictures = make_pictures(options.images, options.side, random);
  const Operand first = random_weight(8, 3, random), w1 = random_weight(10, 8, random),
                w2 = random_weight(12, 10, random), w3 = random_weight(6, 12, random);
  constexpr double kMostlyPositive = 1.8, kHalfPositive = 0;
  const Operand x1 = norm_and_relu(convolve(pictures, first), nullptr, kMostlyPositive, random);
  const Operand y1 = convolve(x1, w1), x2 = norm_and_relu(y1, nullptr, kHalfPositive, random);
  const Operand y2 = convolve(x2, w2), x3 = norm_and_relu(y2, &x1, kHalfPositive, random);
  layers_.push_back(blinded(options, blinding, x1, w1, y1));
  layers_.push_back(blinded(options, blinding, x2, w2, y2));
  layers_.push_back(blinded(options, blinding, x3, w3, convolve(x3, w3)));
  layers_[0].layer = "conv1";
  layers_[1].layer = "conv2";
  layers_[2].layer = "conv3";
  layers_[0].reads_first_layer = true;
  layers_[1].adds_shortcut = true;
  for (size_t i = 0; i + 1 < layers_.size(); ++i) {
    layers_[i].next = &layers_[i + 1];
    layers_[i + 1].previous = &layers_[i];
  }
  layers_[0].truth.front().images = pictures;
  layers_[0].truth.front().first_weight = first;
  layers_[0].knowledge.images = make_pictures(4 * options.images, options.side, random);
}

}  // namespace tempo::audit::testing
