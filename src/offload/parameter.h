/// One weight of an offloaded product. Three facts about it are independent: who may know it, whether it trains, and
/// whether it stays on the workers. Whoever drives training calls the same functions for all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "integrity/fingerprint.h"
#include "offload/session.h"

namespace tempo::offload {

struct WeightFacts {
  bool is_public = false;    ///< workers may know it: it is sent as it is, and its channels are not blinded
  bool is_trained = true;    ///< it has a gradient; if not, it stays as it was when it was first used
  bool is_resident = false;  ///< it stays on the workers between passes
};
/// What the options of a session say of a weight that is trained in secret.
WeightFacts facts_of(const BlindingOptions& options);

/// One SGD step; see `Update` in tempo/worker.h.
struct SgdStep {
  uint64_t step = 0;
  double learning_rate = 0, momentum = 0, weight_decay = 0, gradient_scale = 1;
};

/// A weight and velocity as workers hold them, byte for byte. A run restored from it continues bit for bit.
struct ResidentState {
  uint64_t epoch = 0;
  Buffer weight, velocity;
};

/// Not thread-safe. Must not outlive its session.
class Parameter {
 public:
  virtual ~Parameter() = default;
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  [[nodiscard]] const std::string& layer() const { return layer_; }
  [[nodiscard]] const WeightFacts& facts() const { return facts_; }

  /// The weight on the workers, under which keys it lies there, and how long it stays: until `held` is dropped, or, if
  /// that is empty, at least to the end of the pass.
  struct Lease {
    OperandId weight = 0;
    std::shared_ptr<const obfuscation::Key> inner, right;
    Operand held;
  };
  /// Sends the weight unless it is there. @param plain [out, kernel_h, kernel_w, in]. @param path names the keys of a
  /// weight that is sent for one pass.
  virtual Lease acquire(const ConstPlainTensor& plain, const obfuscation::KeyPath& path) = 0;
  /// Brings the fingerprint up to date for the lease that was given last. Call it before a product is verified.
  virtual void refresh_fingerprint(const ConstPlainTensor& /*plain*/) {}
  /// Whether keys of its channels stay the same for all products of a pass, whatever `reuse` says.
  [[nodiscard]] bool has_fixed_keys() const { return facts_.is_public || facts_.is_resident; }
  /// The fingerprint that verifies the weight, or nullptr unless the session verifies.
  [[nodiscard]] const integrity::WeightFingerprint* fingerprint() const {
    return fingerprint_ ? &*fingerprint_ : nullptr;
  }

  /// Whether its gradient stays on the workers. If not, it comes into the TEE, and the functions below do nothing.
  [[nodiscard]] virtual bool keeps_gradient() const { return false; }
  /// The squared Frobenius norm of this step's gradient, or nothing if there was no backward pass or the gradient is in
  /// the TEE. It is untrusted: it may be infinite or not a number.
  virtual std::optional<double> gradient_squared_norm() { return std::nullopt; }
  /// Applies the gradient on the workers.
  virtual void step(const SgdStep& /*step*/) {}
  /// Fetches the state, verified; nothing if the workers hold none that the TEE does not have.
  virtual std::optional<ResidentState> save() { return std::nullopt; }
  /// Sends a saved state to the workers. @throws InputError if the shapes are not those of this weight.
  virtual void restore(const ResidentState& /*state*/) {}
  /// Copies weight and velocity, unless its data is null, into the TEE.
  /// @returns whether there was something to copy: if not, the TEE has the current weight.
  virtual bool fetch(const PlainTensor& /*weight*/, const PlainTensor& /*velocity*/) { return false; }
  /// Sends weight and velocity under the keys of training step `step`. A velocity without data is zero.
  virtual void start(const ConstPlainTensor& /*weight*/, const ConstPlainTensor& /*velocity*/, uint64_t /*step*/) {}
  /// Gives the weight to active workers that do not have it, after verifying it. Call it between steps only.
  virtual void replicate() {}
  /// Drops the weight from the workers, as if it had never been sent.
  virtual void forget() {}

 protected:
  Parameter(Session& session, std::string layer, const obfuscation::TileGeometry& geometry, const WeightFacts& facts);
  /// Takes the fingerprint of a plain weight under new keys.
  void take_fingerprint(const ConstPlainTensor& weight, const ProductKeys& keys);

  Session& session_;
  std::string layer_;
  obfuscation::TileGeometry geometry_;  // the weight's cut, `obfuscation::weight_geometry`
  WeightFacts facts_;
  std::optional<integrity::WeightFingerprint> fingerprint_;
};

/// @throws InputError for a weight that is public and trained (its updates would show the data), or that is trained and
/// resident under keys that do not allow it.
std::unique_ptr<Parameter> make_parameter(Session& session, const std::string& layer,
                                          const obfuscation::TileGeometry& geometry, const WeightFacts& facts);

}  // namespace tempo::offload
