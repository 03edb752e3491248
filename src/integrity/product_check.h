/// Verifies one use of one layer, a forward product and its two gradients, against the weight's fingerprint.
/// Mathematics and rounding model: docs/integrity.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "integrity/fingerprint.h"
#include "integrity/product_shape.h"

namespace tempo::integrity {

/// The rounding errors on the way from plain operands to an un-blinded result.
struct RoundingModel {
  double unit_roundoff = 0x1p-24;  ///< unit roundoff of products: 2^-24 for float32, 2^-53 for float64
  double wire_roundoff = 0;  ///< roundoff of activations and gradients, on the wire or in products: 2^-9 for bfloat16
  double gradient_roundoff = 0;  ///< roundoff of operands of weight gradients, which only the wire rounds
  double input_noise = 0;        ///< energy of the decoys in X, relative to the real X
  double output_noise = 0;       ///< energy of the decoys in dY, relative to the real dY
  double key_spread = 1;         ///< factor by which the scales of keys enlarge relative errors; 1 for orthogonal keys
};

/// The distance of a result from what the fingerprint says, one value for each pixel (for a weight gradient, for each
/// tap and output channel).
struct Residual {
  std::vector<double> values;
  double tolerance = 0;  ///< largest Euclidean norm of `values` that rounding explains
  /// False if the master's own operands are not finite or products overflow. The run then fails anyway.
  bool is_decidable = true;

  /// Whether rounding explains the residual, or it is not decidable. False if a result of finite operands is not
  /// finite.
  [[nodiscard]] bool is_explained() const;
  /// Norm divided by tolerance, for calibration and metrics; 0 if the tolerance is not positive.
  [[nodiscard]] double ratio() const;
};

/// What a check needs of one tensor: inner products of each pixel's channels with a few vectors, weighted sums of its
/// pixels, and its energy. Code that moves the tensor may compute them on the way; `measure` computes them in separate
/// passes.
template <typename T>
struct Projection {
  int64_t pixels = 0, channels = 0, count = 0;
  std::vector<T> vectors;  ///< [count, channels]
  std::vector<T> planes;   ///< [count + 1, pixels]; the last plane has sums of squares, zero unless computed on the way
  std::vector<T> weights;  ///< [sums, pixels]; empty: no weighted sums
  std::vector<double> column_sums;  ///< [sums, channels]
  double energy = 0;                ///< squared Frobenius norm

  /// Computes everything in separate passes. @param x [pixels, channels]
  void measure(const T* x, ThreadPool& threads);
  /// Sets `energy`, if all of `planes` was computed on the way.
  void sum_energy();
  [[nodiscard]] const T* plane(int64_t vector) const { return planes.data() + vector * pixels; }
};

/// The check of one call of a layer. Borrows the fingerprint, which must not advance between forward and backward. Not
/// thread-safe.
class ProductCheck {
 public:
  ProductCheck(const ProductShape& shape, const RoundingModel& rounding, const WeightFingerprint& weight);

  /// What the check needs of x [images, height, width, in], of y [images, out_height, out_width, out], and of their
  /// gradients.
  template <typename T>
  [[nodiscard]] Projection<T> of_input() const;
  template <typename T>
  [[nodiscard]] Projection<T> of_output() const;
  /// Call after `see_input`. The check of a weight gradient needs a weighted sum of dy, so x is not read again.
  /// @param follows_weight whether `weight_gradient` will be called
  template <typename T>
  [[nodiscard]] Projection<T> of_output_gradient(bool follows_weight) const;
  template <typename T>
  [[nodiscard]] Projection<T> of_input_gradient() const;
  /// What the check needs of dw, seen as [out, taps] pixels of `in` channels.
  template <typename T>
  [[nodiscard]] Projection<T> of_weight_gradient() const;

  /// Takes what was measured of x, as it is sent.
  template <typename T>
  void see_input(const Projection<T>& x, ThreadPool& threads);
  /// Compares the un-blinded y with the fingerprint. Call after `see_input`.
  template <typename T>
  [[nodiscard]] Residual output(const Projection<T>& y) const;
  /// Takes what was measured of dy, as it is sent.
  template <typename T>
  void see_output_gradient(const Projection<T>& dy, ThreadPool& threads);
  /// Compares the un-blinded dx with the fingerprint. Call after `see_output_gradient`.
  template <typename T>
  [[nodiscard]] Residual input_gradient(const Projection<T>& dx) const;

  /// The projections that dw must have, so that the fingerprint can follow the weight. x must be the one that was seen,
  /// and dy must have been measured with `follows_weight`.
  template <typename T>
  [[nodiscard]] Projections weight_gradient(const T* x, ThreadPool& threads) const;
  /// Compares the un-blinded dw with what was seen of x and dy. @throws std::logic_error before `see_output_gradient`.
  template <typename T>
  [[nodiscard]] Residual returned_gradient(const Projection<T>& dw) const;
  /// Root of the energy by which rounding may move phi of dw.
  [[nodiscard]] double gradient_error() const { return gradient_error(weight_.rho_rms()); }

 private:
  [[nodiscard]] double window_energy() const;
  [[nodiscard]] double gradient_error(double probe_rms) const;
  /// The deviation of rounding errors that are alike in all entries of a result, for example if operands have a single
  /// value.
  [[nodiscard]] double shared(std::span<const double> expected) const;

  ProductShape shape_;
  RoundingModel rounding_;
  const WeightFingerprint& weight_;
  /// The fingerprint's sigma when the call began. A later use of the layer, under other keys, sets the fingerprint's
  /// anew.
  std::vector<double> sigma_;
  double input_energy_ = 0, gradient_energy_ = 0;  // ||X||^2, ||dY||^2
  std::vector<double> expected_output_;            // Y rho, by output pixel
  std::vector<double> projected_input_;            // X sigma, by input pixel
  std::vector<double> expected_input_gradient_;    // dX sigma, by input pixel
  std::vector<double> projected_gradient_;         // dY rho, by output pixel, where the weight is followed
  std::vector<double> expected_weight_gradient_;   // dW sigma, [taps, out]
};

/// Compares a fetched weight (or velocity) with the fingerprint that followed its updates.
/// @param fetched projections of what was fetched. @param norm its Frobenius norm times the root mean square of rho.
Residual compare_fetched(const Projections& fetched, const Projections& followed, double norm, double drift,
                         double unit_roundoff);

/// A result is refused if it is off by more than this many standard deviations of the rounding model.
constexpr double kToleratedDeviations = 8;

}  // namespace tempo::integrity
