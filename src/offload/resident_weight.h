/// A weight that stays blinded on the worker between steps, and is updated there.
#pragma once

#include <cstdint>
#include <future>
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

  /// Where a WeightGradient leaves its result.
  [[nodiscard]] OperandId gradient_id() const { return gradient_id_; }
  void gradient_submitted(std::future<Buffer> squared_norm);
  /// Frobenius norm, squared, of the gradient of this step: keys are orthogonal, so the worker's figure is the plain
  /// one. Nothing if there was no backward pass. It may be infinite or not a number.
  /// @throws ProtocolError if it is negative.
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

 private:
  struct Keys {
    std::shared_ptr<const obfuscation::Key> inner, right;
  };
  Keys derive(uint64_t epoch);
  [[nodiscard]] uint64_t epoch_of(uint64_t step) const;
  Buffer fetch_raw(const Operand& operand);
  void fetch_verified(PlainTensor weight, PlainTensor velocity);
  Operand encrypt(ConstPlainTensor plain, const Keys& keys);
  void rekey(uint64_t epoch);
  void zero_velocity();
  void unblind(const Buffer& blinded, PlainTensor plain);
  void take_fingerprint(ConstPlainTensor weight, ConstPlainTensor velocity);
  /// Of a fetched weight, and velocity if it has data.
  void verify(ConstPlainTensor weight, ConstPlainTensor velocity);

  Session& session_;
  std::string layer_;
  obfuscation::TileGeometry geometry_;
  std::vector<int64_t> wire_shape_;
  ElementType type_ = ElementType::kFloat32;
  uint64_t epoch_ = 0;
  Keys keys_;
  Operand weight_, velocity_, gradient_;
  OperandId gradient_id_;
  std::future<Buffer> squared_norm_;
  std::optional<double> squared_norm_value_;
  bool has_gradient_ = false;
  std::optional<integrity::WeightFingerprint> fingerprint_;
  std::optional<integrity::Projections> followed_gradient_;
  double followed_error_ = 0;
};

}  // namespace tempo::offload
