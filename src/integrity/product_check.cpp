#include "integrity/product_check.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "integrity/projection.h"

namespace tempo::integrity {
namespace {

constexpr double kWireRms = 0.6;  // root mean square of a rounding to the wire, in units of its bound

/// A projection that is yet to be computed, with the vectors of `first`, then those of `second`.
template <typename T>
Projection<T> projection(int64_t pixels, int64_t channels, const std::vector<double>& first,
                         const std::vector<double>* second) {
  Projection<T> wanted;
  wanted.pixels = pixels;
  wanted.channels = channels;
  wanted.vectors.assign(first.begin(), first.end());
  if (second != nullptr) wanted.vectors.insert(wanted.vectors.end(), second->begin(), second->end());
  wanted.count = static_cast<int64_t>(wanted.vectors.size()) / channels;
  wanted.planes.resize(static_cast<size_t>((wanted.count + 1) * pixels));
  return wanted;
}

/// Whether products of this size, and their squares, are far below what their type can hold. If they are not, an honest
/// worker's results overflow, and the run fails by itself.
bool is_held(double products, double unit_roundoff) { return products < (unit_roundoff < 0x1p-30 ? 1e150 : 1e17); }

double combined(double a, double b) { return std::sqrt(a * a + b * b); }

/// The share of a drift that shows in products: |x . drift| / (|x| |drift|), root mean square. The drift is rounding
/// noise of gradients, which partly lies along the same directions as x; a tenth of the energy of real activations is
/// in their common mean. Decoys make the noise the same in all directions.
double alignment(double noise, double inner) { return std::sqrt(0.1 / (1 + noise) + 1 / inner); }

template <typename T>
void subtract(const std::vector<double>& expected, const T* found, std::vector<double>& out) {
  out.resize(expected.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(found[i]) - expected[i];
}

}  // namespace

template <typename T>
void Projection<T>::measure(const T* x, ThreadPool& threads) {
  energy = project(x, pixels, channels, vectors.data(), count, planes.data(), threads);
  if (weights.empty()) return;
  std::fill(column_sums.begin(), column_sums.end(), 0.0);
  accumulate(x, pixels, channels, weights.data(), static_cast<int64_t>(weights.size()) / pixels, column_sums.data(),
             threads);
}

template <typename T>
void Projection<T>::sum_energy() {
  energy = std::accumulate(plane(count), plane(count) + pixels, 0.0);
}

bool Residual::is_explained() const {
  if (!is_decidable) return true;
  return std::isfinite(tolerance) && norm_of(values) <= tolerance;  // false if the norm is not a number
}

double Residual::ratio() const { return tolerance > 0 ? norm_of(values) / tolerance : 0; }

ProductCheck::ProductCheck(const ProductShape& shape, const RoundingModel& rounding, const WeightFingerprint& weight)
    : shape_(shape), rounding_(rounding), weight_(weight), sigma_(weight.sigma()) {}

/// The energy of all windows of the input that a kernel meets.
double ProductCheck::window_energy() const {
  const auto windows = static_cast<double>(shape_.taps()) / static_cast<double>(shape_.stride * shape_.stride);
  return input_energy_ * std::max(windows, 1.0);
}

template <typename T>
Projection<T> ProductCheck::of_input() const {
  return projection<T>(shape_.in_pixels(), shape_.in, weight_.weight().phi, &sigma_);
}

template <typename T>
Projection<T> ProductCheck::of_output() const {
  return projection<T>(shape_.out_pixels(), shape_.out, weight_.rho(), nullptr);
}

template <typename T>
Projection<T> ProductCheck::of_output_gradient(bool follows_weight) const {
  const ProductShape& s = shape_;
  const int64_t pixels = s.out_pixels();
  Projection<T> wanted = projection<T>(pixels, s.out, weight_.weight().psi, follows_weight ? &weight_.rho() : nullptr);
  wanted.weights.resize(static_cast<size_t>(s.taps() * pixels));
  wanted.column_sums.resize(static_cast<size_t>(s.taps() * s.out));
  for_each_run(s, 0, s.images, [&](int64_t out, int64_t tap, int64_t in, int64_t run) {
    T* const weights = wanted.weights.data() + tap * pixels + out;
    for (int64_t i = 0; i < run; ++i)
      weights[i] = static_cast<T>(projected_input_[static_cast<size_t>(in + i * s.stride)]);
  });
  return wanted;
}

template <typename T>
Projection<T> ProductCheck::of_input_gradient() const {
  return projection<T>(shape_.in_pixels(), shape_.in, weight_.sigma(), nullptr);
}

template <typename T>
Projection<T> ProductCheck::of_weight_gradient() const {
  return projection<T>(shape_.out * shape_.taps(), shape_.in, sigma_, nullptr);
}

template <typename T>
void ProductCheck::see_input(const Projection<T>& x, ThreadPool& threads) {
  const ProductShape& s = shape_;
  const int64_t pixels = s.in_pixels();
  input_energy_ = x.energy;

  expected_output_.assign(static_cast<size_t>(s.out_pixels()), 0);
  threads.parallel_for(s.images, 1, [&](int64_t begin, int64_t end) {
    for_each_run(s, begin, end, [&](int64_t out, int64_t tap, int64_t in, int64_t run) {
      const T* const from = x.plane(tap) + in;
      for (int64_t i = 0; i < run; ++i)
        expected_output_[static_cast<size_t>(out + i)] += static_cast<double>(from[i * s.stride]);
    });
  });
  projected_input_.assign(x.plane(s.taps()), x.plane(s.taps()) + pixels);
}

template <typename T>
Residual ProductCheck::output(const Projection<T>& y) const {
  Residual residual;
  subtract(expected_output_, y.plane(0), residual.values);

  const double noise = 1 + rounding_.input_noise, inner = static_cast<double>(shape_.taps() * shape_.in);
  const double products = std::sqrt(window_energy() * noise) * weight_.weight_norm() * weight_.rho_rms();
  const double wire = combined(products / std::sqrt(inner), std::sqrt(y.energy * noise) * weight_.rho_rms());
  residual.is_decidable = is_held(products, rounding_.unit_roundoff) && std::isfinite(weight_.drift());
  residual.tolerance =
      kToleratedDeviations * (rounding_.unit_roundoff * rounding_.key_spread * products + shared(expected_output_) +
                              rounding_.wire_roundoff * kWireRms * rounding_.key_spread * wire +
                              std::sqrt(window_energy()) * alignment(rounding_.input_noise, inner) * weight_.drift());
  return residual;
}

template <typename T>
void ProductCheck::see_output_gradient(const Projection<T>& dy, ThreadPool& threads) {
  const ProductShape& s = shape_;
  gradient_energy_ = dy.energy;

  expected_input_gradient_.assign(static_cast<size_t>(s.in_pixels()), 0);
  threads.parallel_for(s.images, 1, [&](int64_t begin, int64_t end) {
    for_each_run(s, begin, end, [&](int64_t out, int64_t tap, int64_t in, int64_t run) {
      const T* const from = dy.plane(tap) + out;
      for (int64_t i = 0; i < run; ++i)
        expected_input_gradient_[static_cast<size_t>(in + i * s.stride)] += static_cast<double>(from[i]);
    });
  });
  projected_gradient_.clear();
  if (dy.count > s.taps()) projected_gradient_.assign(dy.plane(s.taps()), dy.plane(s.taps()) + s.out_pixels());
  expected_weight_gradient_ = dy.column_sums;
}

template <typename T>
Residual ProductCheck::input_gradient(const Projection<T>& dx) const {
  Residual residual;
  subtract(expected_input_gradient_, dx.plane(0), residual.values);

  const double noise = 1 + rounding_.output_noise, inner = static_cast<double>(shape_.out);
  const double products = std::sqrt(gradient_energy_ * noise) * weight_.weight_norm() * weight_.sigma_rms();
  // Overlapping tiles are rounded one by one, before they are summed.
  const double tiles =
      std::sqrt(dx.energy * noise) * weight_.sigma_rms() * std::sqrt(static_cast<double>(shape_.taps()));
  const double wire = combined(products / std::sqrt(inner), tiles);
  residual.is_decidable = is_held(products, rounding_.unit_roundoff) && std::isfinite(weight_.drift());
  residual.tolerance = kToleratedDeviations *
                       (rounding_.unit_roundoff * rounding_.key_spread * products + shared(expected_input_gradient_) +
                        rounding_.wire_roundoff * kWireRms * rounding_.key_spread * wire +
                        std::sqrt(gradient_energy_ * static_cast<double>(shape_.taps())) *
                            alignment(rounding_.output_noise, inner) * weight_.drift());
  return residual;
}

template <typename T>
Projections ProductCheck::weight_gradient(const T* x, ThreadPool& threads) const {
  const ProductShape& s = shape_;
  const int64_t pixels = s.in_pixels();
  std::vector<T> weights(static_cast<size_t>(s.taps() * pixels));
  threads.parallel_for(s.images, 1, [&](int64_t begin, int64_t end) {
    for_each_run(s, begin, end, [&](int64_t out, int64_t tap, int64_t in, int64_t run) {
      T* const to = weights.data() + tap * pixels + in;
      for (int64_t i = 0; i < run; ++i)
        to[i * s.stride] = static_cast<T>(projected_gradient_[static_cast<size_t>(out + i)]);
    });
  });
  Projections gradient{std::vector<double>(static_cast<size_t>(s.taps() * s.in)), expected_weight_gradient_};
  accumulate(x, pixels, s.in, weights.data(), s.taps(), gradient.phi.data(), threads);
  return gradient;
}

double ProductCheck::shared(std::span<const double> expected) const {
  constexpr double kShared = 4;
  return kShared * rounding_.unit_roundoff * norm_of(expected);
}

double ProductCheck::gradient_error(double probe_rms) const {
  const double noise = (1 + rounding_.input_noise) * (1 + rounding_.output_noise);
  const auto terms = static_cast<double>(shape_.out_pixels());
  // Sums run in blocks, and over the sums of blocks. For n independent terms, the rounding of a plain sum has n^2 / 2
  // times the energy of one term's rounding; with blocks of b terms, (b n + n^2 / b) / 2 times.
  constexpr double kBlock = 512;
  const double blocked = std::min(1.0, std::sqrt((kBlock + terms / kBlock) / terms));
  const double products = std::sqrt(window_energy() * gradient_energy_ * noise) * probe_rms;
  const double wire = rounding_.gradient_roundoff * kWireRms * std::sqrt(2 / terms);
  return rounding_.key_spread * products * (rounding_.unit_roundoff * blocked + wire);
}

template <typename T>
Residual ProductCheck::returned_gradient(const Projection<T>& dw) const {
  const int64_t taps = shape_.taps();
  std::vector<T> by_tap(static_cast<size_t>(dw.pixels));
  for (int64_t pixel = 0; pixel < dw.pixels; ++pixel)
    by_tap[static_cast<size_t>(pixel % taps * shape_.out + pixel / taps)] = dw.plane(0)[pixel];
  // An empty expectation would always pass, so a gradient is checked only after `see_output_gradient`.
  if (expected_weight_gradient_.size() != by_tap.size())
    throw std::logic_error("integrity: a weight gradient is checked before dY was seen");
  Residual residual;
  subtract(expected_weight_gradient_, by_tap.data(), residual.values);
  const double error = gradient_error(norm_of(sigma_) / std::sqrt(static_cast<double>(shape_.in)));
  residual.is_decidable = is_held(error / rounding_.unit_roundoff, rounding_.unit_roundoff);
  residual.tolerance = kToleratedDeviations * (error + shared(expected_weight_gradient_));
  return residual;
}

Residual compare_fetched(const Projections& fetched, const Projections& followed, double norm, double drift,
                         double unit_roundoff) {
  Residual residual;
  subtract(followed.phi, fetched.phi.data(), residual.values);
  residual.is_decidable = std::isfinite(drift) && is_held(norm_of(followed.phi), unit_roundoff);
  residual.tolerance = kToleratedDeviations * (drift + 4 * unit_roundoff * norm);
  return residual;
}

#define TEMPO_INSTANTIATE(T)                                                          \
  template struct Projection<T>;                                                      \
  template Projection<T> ProductCheck::of_input() const;                              \
  template Projection<T> ProductCheck::of_output() const;                             \
  template Projection<T> ProductCheck::of_output_gradient(bool) const;                \
  template Projection<T> ProductCheck::of_input_gradient() const;                     \
  template Projection<T> ProductCheck::of_weight_gradient() const;                    \
  template void ProductCheck::see_input(const Projection<T>&, ThreadPool&);           \
  template Residual ProductCheck::output(const Projection<T>&) const;                 \
  template void ProductCheck::see_output_gradient(const Projection<T>&, ThreadPool&); \
  template Residual ProductCheck::input_gradient(const Projection<T>&) const;         \
  template Projections ProductCheck::weight_gradient(const T*, ThreadPool&) const;    \
  template Residual ProductCheck::returned_gradient(const Projection<T>&) const;
TEMPO_INSTANTIATE(float)
TEMPO_INSTANTIATE(double)
#undef TEMPO_INSTANTIATE

}  // namespace tempo::integrity
