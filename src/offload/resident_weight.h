/// A weight that stays blinded on the worker between steps, and is updated there.
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

/// The exact blinded state, for checkpoints: restoring it continues bit for bit.
struct ResidentState {
  uint64_t epoch = 0;
  Buffer weight, velocity;
};

/// Not thread-safe. The plain weight in the TEE goes stale until `fetch`.
class ResidentWeight {
 public:
  ResidentWeight(Session& session, std::string layer, obfuscation::TileGeometry geometry,
                 std::vector<int64_t> wire_shape);

  struct Lease {
    OperandId weight = 0;
    std::shared_ptr<const obfuscation::Key> inner, right;
  };
  /// The blinded weight under the keys of the current epoch. Sends `plain` the first time; after `rekey_interval`
  /// training steps fetches, un-blinds and blinds anew.
  Lease acquire(ConstPlainTensor plain);

  /// What the weight is verified by; nothing unless the session verifies. Follows the updates, and is taken anew from
  /// every plain weight that passes through here.
  [[nodiscard]] const integrity::WeightFingerprint* fingerprint() const {
    return fingerprint_ ? &*fingerprint_ : nullptr;
  }
  /// What the fingerprint of the gradient on the worker must be; `error` as in WeightFingerprint::advance.
  void gradient_followed(integrity::Projections gradient, double error);

  /// Sends weight and velocity under the keys of training step `step`; a velocity without data is zero.
  void start(ConstPlainTensor weight, ConstPlainTensor velocity, uint64_t step);

  /// How many workers hold it. One keeps the gradient that it computes; the sum of several parts is given to all.
  [[nodiscard]] size_t replicas() const;
  /// Where a WeightGradient leaves its result, if one worker computes it all.
  [[nodiscard]] OperandId gradient_id() const { return gradient_id_; }
  void gradient_submitted(PendingReply squared_norm);
  /// The blinded gradient, summed and verified. @param is_there whether the workers have it already.
  void gradient_summed(const Buffer& gradient, bool is_there);
  /// Frobenius norm, squared, of the gradient of this step: keys are orthogonal, so the worker's figure is the plain
  /// one. Nothing if there was no backward pass. It may be infinite or not a number.
  /// @throws ProtocolError if a worker says that it is negative.
  std::optional<double> gradient_squared_norm();
  /// Applies the gradient on the worker. Does nothing if there was no backward pass since the last update.
  void update(const SgdStep& step);

  [[nodiscard]] bool is_on_worker() const { return static_cast<bool>(weight_); }
  /// Copies weight (and velocity, unless its data is null) into the TEE. Requires is_on_worker().
  /// @throws IntegrityError if the session verifies, and what comes back is not what the updates made of the weight.
  void fetch(PlainTensor weight, PlainTensor velocity);
  /// Verified as by `fetch`.
  ResidentState save();
  /// @throws InputError if the shapes are not this weight's.
  void restore(const ResidentState& state);
  /// Gives it to workers that have come since, verified first. Between steps only.
  void replicate();
  /// Drops it from the workers, as if it had never been sent.
  void forget();

 private:
  struct Keys {
    std::shared_ptr<const obfuscation::Key> inner, right;
  };
  Keys derive(uint64_t epoch);
  [[nodiscard]] uint64_t epoch_of(uint64_t step) const;
  /// Fetches, un-blinds and verifies; from another worker where one is wrong. @returns the blinded bytes
  Buffer fetch_verified(const Operand& operand, PlainTensor plain);
  Operand encrypt(ConstPlainTensor plain, const Keys& keys);
  void rekey(uint64_t epoch);
  void zero_velocity();
  void begin_gradient();
  void unblind(const Buffer& blinded, PlainTensor plain);
  void take_fingerprint(ConstPlainTensor weight, ConstPlainTensor velocity);
  /// Of what was fetched: the velocity, or else the weight.
  void verify(ConstPlainTensor fetched, bool is_velocity);

  Session& session_;
  std::string layer_;
  obfuscation::TileGeometry geometry_;
  std::vector<int64_t> wire_shape_;
  ElementType type_ = ElementType::kFloat32;
  uint64_t epoch_ = 0;
  Keys keys_;
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
