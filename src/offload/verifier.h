/// Verification of a worker's results where products are made: decides what is checked, keeps the fingerprints of
/// returned weights, counts, and refuses. The mathematics is in src/integrity.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/csprng.h"
#include "integrity/policy.h"
#include "integrity/product_check.h"
#include "obfuscation/key.h"
#include "tempo/options.h"
#include "tempo/worker.h"

namespace tempo::offload {

class Session;
class ResidentWeight;
struct ConstPlainTensor;
struct PlainTensor;

/// What all layers of a session share. Not thread-safe.
class Verifier {
 public:
  struct Counts {
    uint64_t checks = 0, failures = 0;
    double largest_ratio = 0;  ///< of a residual by what was tolerated, among results that passed
  };

  explicit Verifier(const integrity::PolicySetting& policy)
      : policy_(policy), secret_(SecretKey::random()), draws_(derive_key(secret_, "sampling")) {}

  [[nodiscard]] bool is_on() const { return policy_.policy != integrity::Policy::kOff; }
  /// Whether to check the next product: unpredictable for a worker. Every one under `always`.
  [[nodiscard]] bool draw() {
    return policy_.policy == integrity::Policy::kAlways || (is_on() && draws_.uniform() < policy_.probability);
  }
  /// A stream for one layer's fingerprint.
  [[nodiscard]] Csprng stream(const std::string& layer) {
    return Csprng(derive_key(secret_, "fingerprint", {layer, serial_++}));
  }
  /// Counts a check. @param worker, what  who returned the result, and its name in the message
  /// @throws IntegrityError if the residual is more than rounding explains.
  void conclude(const integrity::Residual& residual, const std::string& worker, const std::string& what);
  /// Counts a check of the largest entry of a residual, which narrow wires need (docs/integrity.md).
  void conclude_entry(double largest, double tolerance, const std::string& worker, const std::string& what);

  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  void conclude(bool passed, double ratio, const std::string& worker, const std::string& what);

  integrity::PolicySetting policy_;
  SecretKey secret_;
  Csprng draws_;
  uint64_t serial_ = 0;
  Counts counts_;
};

/// Turns a fingerprint's probes, which are of blinded channels, to plain ones: for W~ under these keys.
void use_keys(integrity::WeightFingerprint& fingerprint, const obfuscation::Key& inner, const obfuscation::Key& right,
              ThreadPool& threads);

/// What rounds on the way of a product under these options. @param noise energies of the decoys, as in DecoyPlan
integrity::RoundingModel rounding_model(const BlindingOptions& options, ElementType type, ElementType wire,
                                        double input_noise, double output_noise);

/// Calls f with a null pointer to the element type, so that it can name it.
template <typename F>
auto with_element_type(ElementType type, const F& f) {
  return type == ElementType::kFloat64 ? f(static_cast<const double*>(nullptr)) : f(static_cast<const float*>(nullptr));
}

/// obfuscation::PixelProducts of a tensor whose type is known at run time.
struct ProductsOnTheWay {
  int64_t count = 0;
  const void* vectors = nullptr;
  void* planes = nullptr;
  const void* weights = nullptr;
  double* column_sums = nullptr;
};

/// What verification wants of a tensor (integrity::Projection), whatever its type; or nothing. Taken while the tensor
/// is blinded or un-blinded, or in a pass of its own.
class Probe {
 public:
  Probe() = default;
  template <typename T>
  explicit Probe(integrity::Projection<T> wanted) : of_(std::move(wanted)) {}

  [[nodiscard]] explicit operator bool() const { return of_.index() != 0; }
  /// Whether it can be taken on the way of a tensor under these keys.
  [[nodiscard]] bool fits(const obfuscation::Key& rows, const obfuscation::Key& channels) const;
  /// Valid until this dies. `arrived` must follow.
  [[nodiscard]] ProductsOnTheWay on_the_way();
  void arrived();
  void measure(ConstPlainTensor x, ThreadPool& threads);
  [[nodiscard]] double energy() const;
  template <typename T>
  [[nodiscard]] const integrity::Projection<T>& as() const {
    return std::get<integrity::Projection<T>>(of_);
  }

 private:
  std::variant<std::monostate, integrity::Projection<float>, integrity::Projection<double>> of_;
};

/// Verifies one forward product and its gradients.
class CallVerifier {
 public:
  /// Largest entry, by size, of a residual over pixels once it is mixed as the blinded operand was.
  using LargestMixed = std::function<double(const std::vector<double>&)>;

  /// @param weight must hold the weight's fingerprint, and live and not advance until the backward pass is done.
  /// @param is_checked results are verified; else the fingerprint only follows the gradients (`follows_weight`).
  CallVerifier(Session& session, std::string layer, const integrity::ProductShape& shape,
               const integrity::RoundingModel& rounding, ElementType type, const integrity::WeightFingerprint& weight,
               bool is_checked, bool follows_weight);

  /// What it wants of the tensors; of results nothing, unless they are checked.
  [[nodiscard]] Probe of_input() const;
  [[nodiscard]] Probe of_output() const;
  [[nodiscard]] Probe of_output_gradient() const;
  [[nodiscard]] Probe of_input_gradient() const;
  [[nodiscard]] Probe of_weight_gradient() const;

  void see_input(const Probe& x);
  void check_output(const Probe& y, const LargestMixed& largest_mixed);
  void see_output_gradient(const Probe& dy);
  void check_input_gradient(const Probe& dx, const LargestMixed& largest_mixed);
  void check_weight_gradient(const Probe& dw);
  /// The resident weight's fingerprint follows a gradient, of the x that was seen.
  void follow_gradient(ConstPlainTensor x, ResidentWeight& resident);

 private:
  void conclude(const integrity::Residual& residual, const LargestMixed& largest_mixed, const char* what);

  Session& session_;
  std::string layer_;
  integrity::RoundingModel rounding_;
  integrity::ProductCheck check_;
  ElementType type_;
  bool is_checked_, follows_weight_;
};

}  // namespace tempo::offload
