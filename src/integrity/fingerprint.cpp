#include "integrity/fingerprint.h"

#include <algorithm>
#include <cmath>

#include "integrity/projection.h"

namespace tempo::integrity {
namespace {

std::vector<double> draw(Csprng& secret, int64_t size) {
  std::vector<double> values(static_cast<size_t>(size));
  for (double& value : values) {
    const double magnitude = 0.5 + secret.uniform();
    value = secret.coin() ? magnitude : -magnitude;
  }
  return values;
}

template <typename T>
std::vector<T> as(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

void step(std::vector<double>& weight, std::vector<double>& velocity, const std::vector<double>& gradient,
          const SgdRates& rates) {
  for (size_t i = 0; i < weight.size(); ++i) {
    velocity[i] = rates.momentum * velocity[i] + rates.gradient_scale * gradient[i] + rates.weight_decay * weight[i];
    weight[i] -= rates.learning_rate * velocity[i];
  }
}

}  // namespace

double norm_of(std::span<const double> values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

WeightFingerprint::WeightFingerprint(Csprng& secret, int64_t out, int64_t taps, int64_t in)
    : out_(out),
      taps_(taps),
      in_(in),
      out_probe_(draw(secret, out)),
      in_probe_(draw(secret, in)),
      rho_(out_probe_),
      sigma_(in_probe_) {}

void WeightFingerprint::use(std::vector<double> rho, std::vector<double> sigma) {
  rho_ = std::move(rho);
  sigma_ = std::move(sigma);
}

double WeightFingerprint::rms(const std::vector<double>& values) {
  return norm_of(values) / std::sqrt(static_cast<double>(std::max<size_t>(values.size(), 1)));
}

template <typename T>
Projections WeightFingerprint::project(const T* plain, ThreadPool& threads, double* squared_norm) const {
  Projections result;
  result.phi.resize(static_cast<size_t>(taps_ * in_));
  const std::vector<T> rho = as<T>(rho_), sigma = as<T>(sigma_);
  integrity::accumulate(plain, out_, taps_ * in_, rho.data(), 1, result.phi.data(), threads);
  std::vector<T> by_output(static_cast<size_t>(out_ * taps_));
  const double squares = integrity::project(plain, out_ * taps_, in_, sigma.data(), 1, by_output.data(), threads);
  if (squared_norm != nullptr) *squared_norm = squares;
  result.psi.resize(by_output.size());
  for (int64_t o = 0; o < out_; ++o)
    for (int64_t k = 0; k < taps_; ++k)
      result.psi[static_cast<size_t>(k * out_ + o)] =
          static_cast<double>(by_output[static_cast<size_t>(o * taps_ + k)]);
  return result;
}

template <typename T>
void WeightFingerprint::take(const T* weight, ThreadPool& threads) {
  double squares = 0;
  weight_ = project(weight, threads, &squares);
  velocity_ = {std::vector<double>(weight_.phi.size()), std::vector<double>(weight_.psi.size())};
  norm_ = std::sqrt(squares);
  taken_phi_norm_ = norm_of(weight_.phi);
  drift_energy_ = velocity_drift_energy_ = 0;
}

template <typename T>
void WeightFingerprint::take_velocity(const T* velocity, ThreadPool& threads) {
  velocity_ = project(velocity, threads);
  velocity_drift_energy_ = 0;
}

void WeightFingerprint::advance(const Projections& gradient, const SgdRates& rates, double gradient_error,
                                double unit_roundoff) {
  step(weight_.phi, velocity_.phi, gradient.phi, rates);
  step(weight_.psi, velocity_.psi, gradient.psi, rates);
  // Errors of different steps are independent, so their energies add up. The velocity passes each error on to the
  // weight 1 / (1 - momentum) times.
  const double error = std::hypot(rates.gradient_scale * gradient_error, 2 * unit_roundoff * norm_of(velocity_.phi));
  velocity_drift_energy_ = rates.momentum * rates.momentum * velocity_drift_energy_ + error * error;
  const double rounding = unit_roundoff * weight_norm() * rho_rms();
  const double followed = rates.learning_rate * error / (1 - rates.momentum);
  // Weight decay feeds a drift back into the next step.
  const double fed_back = 1 + rates.learning_rate * rates.weight_decay / (1 - rates.momentum);
  drift_energy_ = drift_energy_ * fed_back * fed_back + followed * followed + rounding * rounding;
}

double WeightFingerprint::weight_norm() const {
  const double now = norm_of(weight_.phi);
  return now > taken_phi_norm_ && taken_phi_norm_ > 0 ? norm_ * now / taken_phi_norm_ : norm_;
}

double WeightFingerprint::drift() const { return std::sqrt(drift_energy_); }
double WeightFingerprint::velocity_drift() const { return std::sqrt(velocity_drift_energy_); }

template Projections WeightFingerprint::project(const float*, ThreadPool&, double*) const;
template Projections WeightFingerprint::project(const double*, ThreadPool&, double*) const;
template void WeightFingerprint::take(const float*, ThreadPool&);
template void WeightFingerprint::take(const double*, ThreadPool&);
template void WeightFingerprint::take_velocity(const float*, ThreadPool&);
template void WeightFingerprint::take_velocity(const double*, ThreadPool&);

}  // namespace tempo::integrity
