/// A weight that stays blinded on the workers between steps, and is updated there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "offload/parameter.h"

namespace tempo::offload {

/// One resident weight and its SGD velocity. Not thread-safe. The plain weight in the TEE is out of date until `fetch`.
class ResidentWeight final : public Parameter {
 public:
  ResidentWeight(Session& session, const std::string& layer, const obfuscation::TileGeometry& geometry);

  /// Returns the weight under the keys of the current epoch. The first call sends `plain`. When a training step begins
  /// a new epoch (`rekey_interval` steps), the weight is fetched, un-blinded and blinded anew. The fingerprint follows
  /// every update, and is computed anew from every plain weight that passes through this class.
  Lease acquire(const ConstPlainTensor& plain, const obfuscation::KeyPath& path) override;
  [[nodiscard]] bool keeps_gradient() const override { return true; }

  /// Sets what the projections of the gradient on the worker must be. `error` is as in WeightFingerprint::advance.
  void gradient_followed(integrity::Projections gradient, double error);

  void start(const ConstPlainTensor& weight, const ConstPlainTensor& velocity, uint64_t step) override;

  /// The number of workers that hold the weight. A single worker keeps the gradient that it computes; with several, the
  /// sum of their parts is given to all.
  [[nodiscard]] size_t replicas() const;
  /// The operand that a WeightGradient is kept as, if one worker computes all of it.
  [[nodiscard]] OperandId gradient_id() const { return gradient_id_; }
  void gradient_submitted(PendingReply squared_norm);
  /// Takes the blinded gradient, summed and verified. @param is_there whether the workers hold the sum already.
  void gradient_summed(const Buffer& gradient, bool is_there);
  /// Keys are orthogonal, so the worker's figure is that of the plain gradient.
  /// @throws ProtocolError if a worker says that it is negative.
  std::optional<double> gradient_squared_norm() override;
  /// Does nothing if there was no backward pass since the last update.
  /// @throws InputError if the session verifies and the gradient was not followed.
  void step(const SgdStep& step) override;

  /// @throws IntegrityError if the session verifies and what comes back is not the weight after the updates.
  bool fetch(const PlainTensor& weight, const PlainTensor& velocity) override;
  std::optional<ResidentState> save() override;
  void restore(const ResidentState& state) override;
  void replicate() override;
  void forget() override;

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
  void take_fingerprints(const ConstPlainTensor& weight, const ConstPlainTensor& velocity);
  /// Verifies what was fetched: the velocity if `is_velocity`, else the weight.
  void verify(const ConstPlainTensor& fetched, bool is_velocity);

  ElementType type_ = ElementType::kFloat32;
  uint64_t epoch_ = 0;
  ProductKeys keys_;
  Operand weight_, velocity_, gradient_;
  OperandId gradient_id_;
  PendingReply squared_norm_;
  std::optional<double> squared_norm_value_;
  bool has_gradient_ = false;
  std::optional<integrity::Projections> followed_gradient_;
  double followed_error_ = 0;
};

}  // namespace tempo::offload
