/// Verification of one use of one layer: a forward product and its two gradients, against the weight's fingerprint.
/// Mathematics and rounding model: docs/integrity.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "integrity/fingerprint.h"
#include "integrity/product_shape.h"

namespace tempo::integrity {

/// What rounds on the way from plain operands to an un-blinded result.
struct RoundingModel {
  double unit_roundoff = 0x1p-24;  ///< of products: 2^-24 for float32, 2^-53 for float64
  double wire_roundoff = 0;        ///< of activations and gradients on the wire, or in products: 2^-9 for bfloat16
  double gradient_roundoff = 0;    ///< of the operands of weight gradients, which products do not round: the wire's
  double input_noise = 0;          ///< energy of decoys in X, relative to the real one
  double output_noise = 0;         ///< of decoys in dY
  double key_spread = 1;           ///< by how much scales of keys enlarge relative errors; 1 for orthogonal keys
};

/// How far a result is from what the fingerprint says: one value a pixel (of a weight gradient, a tap and channel).
struct Residual {
  std::vector<double> values;
  double tolerance = 0;  ///< largest Euclidean norm that rounding explains
  bool is_decidable =
      true;  ///< false if the master's own operands are not finite, or products overflow: the run fails then

  /// False for anything that is not finite in a result of finite operands.
  [[nodiscard]] bool is_explained() const;
  /// Norm by tolerance, for calibration and metrics.
  [[nodiscard]] double ratio() const;
};

/// What a check wants of one tensor: inner products of each pixel's channels with a few vectors, weighted sums of its
/// pixels, and its energy. Whoever moves the tensor may take them on the way; `measure` takes them in passes of its
/// own.
template <typename T>
struct Projection {
  int64_t pixels = 0, channels = 0, count = 0;
  std::vector<T> vectors;           ///< [count, channels]
  std::vector<T> planes;            ///< [count + 1, pixels]; the last are sums of squares: zero unless taken on the way
  std::vector<T> weights;           ///< [sums, pixels]; empty: none are wanted
  std::vector<double> column_sums;  ///< [sums, channels]
  double energy = 0;                ///< squared Frobenius norm

  /// @param x [pixels, channels]
  void measure(const T* x, ThreadPool& threads);
  /// Where all of `planes` was taken on the way.
  void sum_energy();
  [[nodiscard]] const T* plane(int64_t vector) const { return planes.data() + vector * pixels; }
};

/// One call of a layer. Borrows the fingerprint, which must not advance between forward and backward. Not thread-safe.
class ProductCheck {
 public:
  ProductCheck(const ProductShape& shape, const RoundingModel& rounding, const WeightFingerprint& weight);

  /// What is to be known of x [images, height, width, in], of y [images, out_height, out_width, out], and of their
  /// gradients.
  template <typename T>
  [[nodiscard]] Projection<T> of_input() const;
  template <typename T>
  [[nodiscard]] Projection<T> of_output() const;
  /// After `see_input`. What the check of a weight gradient needs is a sum of dy: x is not read again.
  /// @param follows_weight also what `weight_gradient` needs
  template <typename T>
  [[nodiscard]] Projection<T> of_output_gradient(bool follows_weight) const;
  template <typename T>
  [[nodiscard]] Projection<T> of_input_gradient() const;
  /// Of dw as [out, taps] pixels of `in` channels.
  template <typename T>
  [[nodiscard]] Projection<T> of_weight_gradient() const;

  /// Of x as it is sent.
  template <typename T>
  void see_input(const Projection<T>& x, ThreadPool& threads);
  /// Of the un-blinded y.
  template <typename T>
  [[nodiscard]] Residual output(const Projection<T>& y) const;
  /// Of dy as it is sent.
  template <typename T>
  void see_output_gradient(const Projection<T>& dy, ThreadPool& threads);
  /// Of the un-blinded dx.
  template <typename T>
  [[nodiscard]] Residual input_gradient(const Projection<T>& dx) const;

  /// What the projections of dw must be, so that the weight can be followed: of the very x that was seen, and a dy that
  /// was seen to this end.
  template <typename T>
  [[nodiscard]] Projections weight_gradient(const T* x, ThreadPool& threads) const;
  /// Of the un-blinded dw.
  template <typename T>
  [[nodiscard]] Residual returned_gradient(const Projection<T>& dw) const;
  /// Root of the energy by which rounding moves phi of dw.
  [[nodiscard]] double gradient_error() const { return gradient_error(weight_.rho_rms()); }

 private:
  [[nodiscard]] double window_energy() const;
  [[nodiscard]] double gradient_error(double probe_rms) const;
  /// Deviation of rounding that is alike in all entries of a result, as where operands have a single value.
  [[nodiscard]] double shared(std::span<const double> expected) const;

  ProductShape shape_;
  RoundingModel rounding_;
  const WeightFingerprint& weight_;
  /// As it was when the call began: a later use of the layer, under other keys, sets that of the weight anew.
  std::vector<double> sigma_;
  double input_energy_ = 0, gradient_energy_ = 0;  // ||X||^2, ||dY||^2
  std::vector<double> expected_output_;            // Y rho, by output pixel
  std::vector<double> projected_input_;            // X sigma, by input pixel
  std::vector<double> expected_input_gradient_;    // dX sigma, by input pixel
  std::vector<double> projected_gradient_;         // dY rho, by output pixel, where the weight is followed
  std::vector<double> expected_weight_gradient_;   // dW sigma, [taps, out]
};

/// Of a weight that was fetched, against the fingerprint that followed its updates.
/// @param fetched projections of the fetched weight (or velocity), @param norm its Frobenius norm
Residual compare_fetched(const Projections& fetched, const Projections& followed, double norm, double drift,
                         double unit_roundoff);

/// Standard deviations of the rounding model at which a result is refused.
constexpr double kToleratedDeviations = 8;

}  // namespace tempo::integrity
