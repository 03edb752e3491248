#include "audit/synthetic_case.h"

#include <cmath>
#include <random>

#include "audit/step_blinder.h"

namespace tempo::audit::testing {
namespace {

/// y = x * w, unpadded with stride 1; and its gradients, as plain loops.
struct Convolution {
  int64_t tile, kernel;

  template <typename Visit>
  void each(const Operand& x, const Operand& w, Visit visit) const {
    const int64_t side = tile + kernel - 1;
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t oy = 0; oy < tile; ++oy)
        for (int64_t ox = 0; ox < tile; ++ox)
          for (int64_t ky = 0; ky < kernel; ++ky)
            for (int64_t kx = 0; kx < kernel; ++kx)
              for (int64_t o = 0; o < w.rows; ++o)
                for (int64_t c = 0; c < x.channels; ++c)
                  visit(r, oy * tile + ox, (oy + ky) * side + ox + kx, ky * kernel + kx, o, c);
  }
};

}  // namespace

LayerCase synthetic_case(const SyntheticOptions& o, const BlindingOptions& blinding) {
  std::mt19937_64 random(o.seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<double> uniform;
  const int64_t rows = o.images * o.tiles_y * o.tiles_x, side = o.tile + o.kernel - 1;
  StepBlinder blinder(blinding, derive_key(key_from_seed_insecure(o.seed), "audit-test"), rows, o.in, o.out);

  Operand w(o.out, o.kernel, o.kernel, o.in);
  for (float& v : w.values) v = normal(random);

  LayerCase layer;
  layer.layer = "synthetic";
  layer.tiles_y = o.tiles_y;
  layer.tiles_x = o.tiles_x;
  const Convolution convolution{o.tile, o.kernel};
  for (int step = 0; step < o.steps; ++step) {
    StepTruth truth;
    truth.w = w;
    truth.x = Operand(rows, side, side, o.in);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t p = 0; p < side * side; ++p)
        for (int64_t c = 0; c < o.in; ++c) {
          const int64_t ty = r / o.tiles_x % o.tiles_y, tx = r % o.tiles_x, y = p / side, x = p % side;
          const bool is_padding = o.padded && o.kernel > 1 &&
                                  ((ty == 0 && y == 0) || (tx == 0 && x == 0) ||
                                   (ty == o.tiles_y - 1 && y == side - 1) || (tx == o.tiles_x - 1 && x == side - 1));
          // Exponential tails, and a scale of its own for every channel.
          const double value = -std::log(1 - uniform(random)) * (1 + 0.2 * static_cast<double>(c));
          float& v = truth.x.at(r, p, c);
          if (is_padding || uniform(random) < o.zeros)
            v = 0;
          else
            v = o.integers ? static_cast<float>(1 + random() % 255) : static_cast<float>(value);
        }
    for (int64_t i = 0; i < o.images; ++i) truth.labels.push_back(static_cast<int>(random() % 10));
    truth.y = Operand(rows, o.tile, o.tile, o.out);
    convolution.each(truth.x, w, [&](auto r, auto p, auto q, auto k, auto m, auto c) {
      truth.y.at(r, p, m) += truth.x.at(r, q, c) * w.at(m, k, c);
    });
    truth.dy = Operand(rows, o.tile, o.tile, o.out);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t p = 0; p < o.tile * o.tile; ++p) {
        if (!o.logit_gradients) {
          for (int64_t m = 0; m < o.out; ++m) truth.dy.at(r, p, m) = normal(random);
          continue;
        }
        double sum = 0;
        for (int64_t m = 0; m < o.out; ++m) sum += std::exp(0.3 * normal(random));
        const int label = truth.labels[static_cast<size_t>(r)] % static_cast<int>(o.out);
        for (int64_t m = 0; m < o.out; ++m)
          truth.dy.at(r, p, m) = static_cast<float>(std::exp(0.3 * normal(random)) / sum - (m == label ? 1 : 0));
      }
    truth.dx = Operand(rows, side, side, o.in);
    truth.dw = Operand(o.out, o.kernel, o.kernel, o.in);
    convolution.each(truth.x, w, [&](auto r, auto p, auto q, auto k, auto m, auto c) {
      truth.dx.at(r, q, c) += truth.dy.at(r, p, m) * w.at(m, k, c);
      truth.dw.at(m, k, c) += truth.dy.at(r, p, m) * truth.x.at(r, q, c);
    });

    if (step > 0 && step % o.steps_per_key == 0) blinder.renew_channels();
    StepView view = blinder.blind(truth);
    view.step = step;
    layer.view.push_back(std::move(view));
    layer.truth.push_back(std::move(truth));
    for (float& v : w.values) v += static_cast<float>(o.drift) * normal(random);
  }
  return layer;
}

}  // namespace tempo::audit::testing
