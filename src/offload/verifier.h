/// Verification of workers' results. Decides what is checked, holds the fingerprints' secrets, counts checks, and
/// refuses wrong results. The mathematics is in src/integrity.
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

/// The part of verification that all layers of a session share. Not thread-safe.
class Verifier {
 public:
  struct Counts {
    uint64_t checks = 0, failures = 0;
    double largest_ratio = 0;  ///< largest quotient of residual and tolerance among results that passed
  };

  explicit Verifier(const integrity::PolicySetting& policy)
      : policy_(policy), secret_(SecretKey::random()), draws_(derive_key(secret_, "sampling")) {}

  [[nodiscard]] bool is_on() const { return policy_.policy != integrity::Policy::kOff; }
  /// Decides whether to check the next product. Always true under `always`; otherwise random, and unpredictable for a
  /// worker.
  [[nodiscard]] bool draw() {
    return policy_.policy == integrity::Policy::kAlways || (is_on() && draws_.uniform() < policy_.probability);
  }
  /// A new secret random stream for one layer. Every call returns another stream.
  [[nodiscard]] Csprng stream(const std::string& layer) {
    return Csprng(derive_key(secret_, "fingerprint", {layer, serial_++}));
  }
  /// Counts a check. @param worker who returned the result. @param what name of the result, for messages.
  /// @throws IntegrityError if the residual is larger than rounding explains.
  void conclude(const integrity::Residual& residual, const std::string& worker, const std::string& what);
  /// Counts a check of the largest entry of a residual, which narrow wires need (docs/integrity.md).
  /// @throws IntegrityError unless `largest` is at most `tolerance`.
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

/// Computes the probes for plain channels from a fingerprint's probes, which are for channels blinded under these keys.
void use_keys(integrity::WeightFingerprint& fingerprint, const obfuscation::Key& inner, const obfuscation::Key& right,
              ThreadPool& threads);

/// The rounding errors of a product under these options. @param input_noise, output_noise energies of the decoys, as in
/// DecoyPlan.
integrity::RoundingModel rounding_model(const BlindingOptions& options, ElementType type, ElementType wire,
                                        double input_noise, double output_noise);

/// Calls `f` with a null pointer to the element type, `const double*` for float64 and `const float*` for all others.
template <typename F>
auto with_element_type(ElementType type, const F& f) {
  return type == ElementType::kFloat64 ? f(static_cast<const double*>(nullptr)) : f(static_cast<const float*>(nullptr));
}

/// obfuscation::PixelProducts for a tensor whose type is known only at run time.
struct ProductsOnTheWay {
  int64_t count = 0;
  const void* vectors = nullptr;
  void* planes = nullptr;
  const void* weights = nullptr;
  double* column_sums = nullptr;
};

/// The figures that verification needs of one tensor (integrity::Projection), of either element type. May be empty.
/// They are computed while the tensor is blinded or un-blinded, or in a separate pass (`measure`).
class Probe {
 public:
  Probe() = default;
  template <typename T>
  explicit Probe(integrity::Projection<T> wanted) : of_(std::move(wanted)) {}

  [[nodiscard]] explicit operator bool() const { return of_.index() != 0; }
  /// Whether the figures can be computed while the tensor is blinded or un-blinded under these keys.
  [[nodiscard]] bool fits(const obfuscation::Key& rows, const obfuscation::Key& channels) const;
  /// Where blinding or un-blinding puts the figures. Valid while this object lives and is not moved. `arrived` must be
  /// called afterwards.
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

/// Verifies one forward product and its gradients. Not thread-safe.
class CallVerifier {
 public:
  /// Mixes a residual over pixels in the way in which the blinded operand was mixed, and returns its largest absolute
  /// entry.
  using LargestMixed = std::function<double(const std::vector<double>&)>;

  /// @param weight     the weight's fingerprint. It must be taken already, and must live and not advance until the
  /// backward pass is done.
  /// @param is_checked whether results are verified. If not, the fingerprint only follows the gradients
  /// (`follows_weight`).
  CallVerifier(Session& session, std::string layer, const integrity::ProductShape& shape,
               const integrity::RoundingModel& rounding, ElementType type, const integrity::WeightFingerprint& weight,
               bool is_checked, bool follows_weight);

  /// The probes of the tensors. Those of results are empty unless results are verified.
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
  /// Tells the resident weight what the projections of its gradient must be, from the x and dy that were seen.
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
