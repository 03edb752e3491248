/// A weight that stays blinded on the workers between steps, and is updated there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "integrity/fingerprint.h"
#include "offload/session.h"

namespace tempo::offload {

/// One SGD step; see `Update` in tempo/worker.h.
struct SgdStep {
  uint64_t step = 0;
  double learning_rate = 0, momentum = 0, weight_decay = 0, gradient_scale = 1;
};

/// The blinded weight and velocity, byte for byte. A run restored from it continues bit for bit.
struct ResidentState {
  uint64_t epoch = 0;
  Buffer weight, velocity;
};

/// One resident weight and its SGD velocity. Not thread-safe. The plain weight in the TEE is out of date until `fetch`.
class ResidentWeight {
 public:
  /// @param geometry the weight's cut, `obfuscation::weight_geometry`.
  ResidentWeight(Session& session, std::string layer, const obfuscation::TileGeometry& geometry);

  struct Lease {
    OperandId weight = 0;
    std::shared_ptr<const obfuscation::Key> inner, right;
  };
  /// Returns the weight under the keys of the current epoch. The first call sends `plain`. When a training step begins
  /// a new epoch (`rekey_interval` steps), the weight is fetched, un-blinded and blinded anew.
  Lease acquire(ConstPlainTensor plain);

  /// The fingerprint that verifies the weight, or nullptr unless the session verifies. It follows every update, and is
  /// computed anew from every plain weight that passes through this class.
  [[nodiscard]] const integrity::WeightFingerprint* fingerprint() const {
    return fingerprint_ ? &*fingerprint_ : nullptr;
  }
  /// Sets what the projections of the gradient on the worker must be. `error` is as in WeightFingerprint::advance.
  void gradient_followed(integrity::Projections gradient, double error);

  /// Sends weight and velocity under the keys of training step `step`. A velocity without data is zero.
  void start(ConstPlainTensor weight, ConstPlainTensor velocity, uint64_t step);

  /// The number of workers that hold the weight. A single worker keeps the gradient that it computes; with several, the
  /// sum of their parts is given to all.
  [[nodiscard]] size_t replicas() const;
  /// The operand that a WeightGradient is kept as, if one worker computes all of it.
  [[nodiscard]] OperandId gradient_id() const { return gradient_id_; }
  void gradient_submitted(PendingReply squared_norm);
  /// Takes the blinded gradient, summed and verified. @param is_there whether the workers hold the sum already.
  void gradient_summed(const Buffer& gradient, bool is_there);
  /// The squared Frobenius norm of this step's gradient, or nothing if there was no backward pass. Keys are orthogonal,
  /// so the worker's figure is that of the plain gradient. It is untrusted: it may be infinite or not a number.
  /// @throws ProtocolError if a worker says that it is negative.
  std::optional<double> gradient_squared_norm();
  /// Applies the gradient on the workers. Does nothing if there was no backward pass since the last update.
  /// @throws InputError if the session verifies and the gradient was not followed.
  void update(const SgdStep& step);

  [[nodiscard]] bool is_on_worker() const { return static_cast<bool>(weight_); }
  /// Copies the weight, and the velocity unless its data is null, into the TEE. Requires is_on_worker().
  /// @throws IntegrityError if the session verifies and what comes back is not the weight after the updates.
  void fetch(PlainTensor weight, PlainTensor velocity);
  /// Fetches the blinded state, verified as in `fetch`. Requires is_on_worker().
  ResidentState save();
  /// Sends a saved state to the workers.
  /// @throws InputError if the shapes are not those of this weight.
  void restore(const ResidentState& state);
  /// Gives the weight to active workers that do not have it, after verifying it. Call it between steps only.
  void replicate();
  /// Drops the weight from the workers, as if it had never been sent.
  void forget();

 private:
  class FetchCheck;
  ProductKeys derive(uint64_t epoch);
  [[nodiscard]] uint64_t epoch_of(uint64_t step) const;
  /// Fetches an operand, un-blinds it into `plain` and verifies it; asks another worker if it is wrong. @returns the
  /// blinded bytes
  Buffer fetch_verified(const Operand& operand, PlainTensor plain);
  Operand encrypt(const ConstPlainTensor& plain);
  void rekey(uint64_t epoch);
  void zero_velocity();
  void begin_gradient();
  /// Weight, velocity and gradient under the keys of the epoch.
  [[nodiscard]] KeyedTensor keyed(Role role) const;
  [[nodiscard]] TensorSpec spec() const { return weight_side(geometry_, type_).wire; }
  void take_fingerprint(ConstPlainTensor weight, ConstPlainTensor velocity);
  /// Verifies what was fetched: the velocity if `is_velocity`, else the weight.
  void verify(ConstPlainTensor fetched, bool is_velocity);

  Session& session_;
  std::string layer_;
  obfuscation::TileGeometry geometry_;
  ElementType type_ = ElementType::kFloat32;
  uint64_t epoch_ = 0;
  ProductKeys keys_;
  Operand weight_, velocity_, gradient_;
  OperandId gradient_id_;
  PendingReply squared_norm_;
  std::optional<double> squared_norm_value_;
  bool has_gradient_ = false;
  std::optional<integrity::WeightFingerprint> fingerprint_;
  std::optional<integrity::Projections> followed_gradient_;
  double followed_error_ = 0;
};

}  // namespace tempo::offload
