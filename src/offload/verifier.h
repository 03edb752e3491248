/// Verification of workers' results. Decides what is checked, holds the fingerprints' secrets, counts checks, and
/// refuses wrong results. The mathematics is in src/integrity.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/csprng.h"
#include "integrity/matmul_check.h"
#include "integrity/policy.h"
#include "integrity/product_check.h"
#include "offload/decoys.h"

namespace tempo::offload {

class Session;
class ResidentWeight;

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

/// The rounding errors of a product in this session, of `type` in the TEE and `wire` on the way.
integrity::RoundingModel rounding_model(const Session& session, ElementType type, ElementType wire,
                                        const DecoyPlan& decoys);

/// The figures that verification needs of one tensor (integrity::Projection), of either element type. May be empty.
/// They are computed while the tensor is blinded or un-blinded, or in a separate pass (`measure`).
class Probe {
 public:
  Probe() = default;
  template <typename T>
  explicit Probe(integrity::Projection<T> wanted) : of_(std::move(wanted)) {}

  [[nodiscard]] explicit operator bool() const { return of_.index() != 0; }
  /// Where blinding or un-blinding puts the figures, if keys support that; none if they are more than can be taken on
  /// the way. Valid while this object lives and is not moved. `arrived` must be called afterwards.
  [[nodiscard]] obfuscation::PixelProducts want();
  void arrived();
  void measure(const ConstPlainTensor& x, ThreadPool& threads);
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
  CallVerifier() = default;
  virtual ~CallVerifier() = default;
  CallVerifier(const CallVerifier&) = delete;
  CallVerifier& operator=(const CallVerifier&) = delete;

  /// What is needed of an operand; empty: nothing.
  [[nodiscard]] virtual Probe probe_of(Role /*operand*/) const { return {}; }
  /// Takes an operand as it is sent, and what was found of it.
  virtual void see(Role operand, const Probe& found, const ConstPlainTensor& plain) = 0;
  /// The check of a result. It borrows `result` and this object. nullptr: results are not checked.
  [[nodiscard]] virtual std::unique_ptr<ResultCheck> check_of(const KeyedTensor& result) = 0;
};

/// What a verifier must know of a call.
struct VerifiedCall {
  std::string layer;
  ElementType type = ElementType::kFloat32;
  integrity::RoundingModel rounding;
  bool is_checked = false;  ///< whether results are verified; if not, the fingerprint only follows the gradients
};

/// Verifies the product of an activation and a weight against the weight's fingerprint.
class FingerprintVerifier final : public CallVerifier {
 public:
  /// @param weight It must be taken already, and must live and not advance until the backward pass is done.
  /// @param follows_weight whether `follow_gradient` will be called.
  FingerprintVerifier(Session& session, VerifiedCall call, const integrity::ProductShape& shape,
                      const integrity::WeightFingerprint& weight, bool follows_weight);

  [[nodiscard]] Probe probe_of(Role tensor) const override;
  void see(Role operand, const Probe& found, const ConstPlainTensor& plain) override;
  [[nodiscard]] std::unique_ptr<ResultCheck> check_of(const KeyedTensor& result) override;
  /// Tells the resident weight what the projections of its gradient must be, from the x and dy that were seen.
  void follow_gradient(const ConstPlainTensor& x, ResidentWeight& resident);

 private:
  class Check;
  void conclude(const KeyedTensor& result, const Probe& found);
  void check_largest_entry(const KeyedTensor& result, const integrity::Residual& residual, const std::string& what);

  Session& session_;
  VerifiedCall call_;
  integrity::ProductCheck check_;
  bool follows_weight_;
};

/// Verifies products of two activations, item by item, from the plain operands.
class MatmulVerifier final : public CallVerifier {
 public:
  MatmulVerifier(Session& session, VerifiedCall call, const integrity::MatmulShape& shape)
      : session_(session), call_(std::move(call)), shape_(shape) {}

  void see(Role operand, const Probe& found, const ConstPlainTensor& plain) override;
  [[nodiscard]] std::unique_ptr<ResultCheck> check_of(const KeyedTensor& result) override;

 private:
  class Check;
  void conclude(Role result, const PlainTensor& found);

  Session& session_;
  VerifiedCall call_;
  integrity::MatmulShape shape_;
  ConstPlainTensor a_, b_, dc_;
};

}  // namespace tempo::offload
