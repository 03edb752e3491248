/// The fingerprint of a weight: what the master keeps of it to verify products with it, a secret projection of each
/// side.
///
///   phi = W rho  [taps, in]   (summed over output channels)        psi = W sigma  [taps, out]  (over input channels)
///
/// rho and sigma are secret and never sent in any form: checks run on un-blinded results. A result that is wrong by E
/// passes only if E rho (or E sigma) is within rounding of zero. A worker that knows neither cannot arrange that
/// (docs/integrity.md). A worker's errors are made under keys, so under keys no entry may be so small that an error can
/// hide behind it. Therefore *probes* are drawn for blinded channels, with random signs and sizes uniform in [1/2,
/// 3/2], and rho and sigma are computed from them with the keys.
///
/// With resident weights the fingerprint follows the updates without the weight, because updates are linear.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/csprng.h"
#include "base/thread_pool.h"

namespace tempo::integrity {

/// The rates of one SGD step, as in `contract::Update`.
struct SgdRates {
  double learning_rate = 0, momentum = 0, weight_decay = 0, gradient_scale = 1;
};

/// The projections of one tensor of the weight's shape, in float64.
struct Projections {
  std::vector<double> phi, psi;
};

/// The fingerprint of one weight and its velocity. Not thread-safe.
class WeightFingerprint {
 public:
  /// Draws probes, which are rho and sigma until `use` is called. The stream must be used for this layer and nothing
  /// else.
  WeightFingerprint(Csprng& secret, int64_t out, int64_t taps, int64_t in);

  [[nodiscard]] const std::vector<double>& out_probe() const { return out_probe_; }
  [[nodiscard]] const std::vector<double>& in_probe() const { return in_probe_; }
  /// Sets rho and sigma: the probes for plain channels. Must be called with every new pair of keys, before `take`.
  void use(std::vector<double> rho, std::vector<double> sigma);

  /// Projects a plain weight [out, taps, in], or a velocity. `squared_norm`, unless nullptr, receives its squared
  /// Frobenius norm.
  template <typename T>
  [[nodiscard]] Projections project(const T* plain, ThreadPool& threads, double* squared_norm = nullptr) const;

  /// Computes the fingerprint of a plain weight, with a velocity of zero.
  template <typename T>
  void take(const T* weight, ThreadPool& threads);
  template <typename T>
  void take_velocity(const T* velocity, ThreadPool& threads);

  /// Follows one SGD step, given the projections of the weight's gradient.
  /// @param gradient_error root of the energy by which rounding alone may move phi or psi of the gradient
  /// @param unit_roundoff  unit roundoff of the worker's weight
  void advance(const Projections& gradient, const SgdRates& rates, double gradient_error, double unit_roundoff);

  [[nodiscard]] const std::vector<double>& rho() const { return rho_; }
  [[nodiscard]] const std::vector<double>& sigma() const { return sigma_; }
  /// Root mean square of the entries of rho and sigma.
  [[nodiscard]] double rho_rms() const { return rms(rho_); }
  [[nodiscard]] double sigma_rms() const { return rms(sigma_); }
  [[nodiscard]] const Projections& weight() const { return weight_; }
  [[nodiscard]] const Projections& velocity() const { return velocity_; }
  /// The Frobenius norm of the weight. Exact when it was last taken; since then scaled by the growth of the
  /// fingerprint.
  [[nodiscard]] double weight_norm() const;
  /// Root of the energy by which rounding alone may have moved phi away from the worker's weight since it was taken.
  [[nodiscard]] double drift() const;
  [[nodiscard]] double velocity_drift() const;

 private:
  static double rms(const std::vector<double>& values);

  int64_t out_, taps_, in_;
  std::vector<double> out_probe_, in_probe_, rho_, sigma_;
  Projections weight_, velocity_;
  double norm_ = 0, taken_phi_norm_ = 0;  // norms of the weight and of phi when the weight was taken
  double drift_energy_ = 0, velocity_drift_energy_ = 0;
};

/// Euclidean norm.
double norm_of(std::span<const double> values);

}  // namespace tempo::integrity
