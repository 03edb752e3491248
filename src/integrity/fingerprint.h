/// What the master keeps of a weight in order to verify products with it: a secret projection of each of its sides.
///
///   phi = W rho  [taps, in]   (summed over output channels)        psi = W sigma  [taps, out]  (over input channels)
///
/// rho and sigma are secret and never sent, in no form: checks run on un-blinded results. A result that is wrong by E
/// passes only if E rho (or E sigma) is within rounding of zero, and a worker that knows neither cannot see to that
/// (docs/integrity.md). A worker errs under keys, so it is there that no entry may be small enough for an error to hide
/// behind: *probes* are drawn for blinded channels, of random sign and of a size uniform in [1/2, 3/2], and rho and
/// sigma are what the keys make of them.
///
/// Under resident weights the fingerprint follows the updates without the weight: they are linear.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/csprng.h"
#include "base/thread_pool.h"

namespace tempo::integrity {

/// The recursion of one SGD step, as `offload::Update`.
struct SgdRates {
  double learning_rate = 0, momentum = 0, weight_decay = 0, gradient_scale = 1;
};

/// Projections of one weight-shaped tensor, in float64.
struct Projections {
  std::vector<double> phi, psi;
};

/// Not thread-safe.
class WeightFingerprint {
 public:
  /// Draws probes, which are rho and sigma until `use`. The stream must belong to this layer and nothing else.
  WeightFingerprint(Csprng& secret, int64_t out, int64_t taps, int64_t in);

  [[nodiscard]] const std::vector<double>& out_probe() const { return out_probe_; }
  [[nodiscard]] const std::vector<double>& in_probe() const { return in_probe_; }
  /// Probes as un-blinded channels see them; to be called with every new pair of keys, before `take`.
  void use(std::vector<double> rho, std::vector<double> sigma);

  /// Of a plain weight [out, taps, in]; of a velocity too.
  template <typename T>
  [[nodiscard]] Projections project(const T* plain, ThreadPool& threads, double* squared_norm = nullptr) const;

  /// Starts from a plain weight, and a velocity of zero.
  template <typename T>
  void take(const T* weight, ThreadPool& threads);
  template <typename T>
  void take_velocity(const T* velocity, ThreadPool& threads);

  /// One SGD step with the projections of the weight's gradient.
  /// @param gradient_error root of the energy by which phi or psi of the gradient may be wrong, of rounding alone
  /// @param unit_roundoff of the worker's weight
  void advance(const Projections& gradient, const SgdRates& rates, double gradient_error, double unit_roundoff);

  [[nodiscard]] const std::vector<double>& rho() const { return rho_; }
  [[nodiscard]] const std::vector<double>& sigma() const { return sigma_; }
  /// Root mean square of their entries.
  [[nodiscard]] double rho_rms() const { return rms(rho_); }
  [[nodiscard]] double sigma_rms() const { return rms(sigma_); }
  [[nodiscard]] const Projections& weight() const { return weight_; }
  [[nodiscard]] const Projections& velocity() const { return velocity_; }
  /// Frobenius norm of the weight: exact when it was last taken, since then scaled by the growth of the fingerprint.
  [[nodiscard]] double weight_norm() const;
  /// Root of the energy by which phi may have drifted from the worker's weight since, by rounding alone.
  [[nodiscard]] double drift() const;
  [[nodiscard]] double velocity_drift() const;

 private:
  static double rms(const std::vector<double>& values);

  int64_t out_, taps_, in_;
  std::vector<double> out_probe_, in_probe_, rho_, sigma_;
  Projections weight_, velocity_;
  double norm_ = 0, taken_phi_norm_ = 0;  // of the weight when taken
  double drift_energy_ = 0, velocity_drift_energy_ = 0;
};

/// Euclidean norm.
double norm_of(std::span<const double> values);

}  // namespace tempo::integrity
