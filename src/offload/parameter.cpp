#include "offload/parameter.h"

#include <fmt/format.h>

#include <utility>

#include "offload/resident_weight.h"
#include "offload/stopwatch.h"
#include "offload/verifier.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace {

std::shared_ptr<const obfuscation::Key> identity(int64_t size) {
  return std::make_shared<const obfuscation::Key>(obfuscation::Key{.size = static_cast<uint32_t>(size), .rounds = {}});
}

/// Keys of a weight's channels: the identity if it is public.
ProductKeys channel_keys(Session& session, const WeightFacts& facts, const obfuscation::TileGeometry& geometry,
                         const obfuscation::KeyPath& path) {
  if (facts.is_public) return {nullptr, identity(geometry.key_channels()), identity(geometry.images)};
  return {nullptr, session.derive(path, KeyRole::kInner, geometry.key_channels()),
          session.derive(path, KeyRole::kRight, geometry.images)};
}

/// A weight that is sent for every pass.
class ReturnedWeight final : public Parameter {
 public:
  ReturnedWeight(Session& session, const std::string& layer, const obfuscation::TileGeometry& geometry,
                 const WeightFacts& facts)
      : Parameter(session, layer, geometry, facts) {}
  Lease acquire(const ConstPlainTensor& plain, const obfuscation::KeyPath& path) override {
    keys_ = channel_keys(session_, facts_, geometry_, path);
    Operand sent =
        session_.exchange().send({{Role::kW, weight_side(geometry_, plain.type), {keys_}, 0}, plain, nullptr});
    const OperandId id = sent.id();
    return {id, keys_.inner, keys_.right, std::move(sent)};
  }
  /// Not with every lease: where results are checked at random, most passes need none.
  void refresh_fingerprint(const ConstPlainTensor& plain) override { take_fingerprint(plain, keys_); }

 private:
  ProductKeys keys_;  // of the last lease
};

/// A weight that never changes. It is sent once, and if it is secret, anew under other keys every `rekey_interval`
/// steps.
class FrozenWeight final : public Parameter {
 public:
  FrozenWeight(Session& session, const std::string& layer, const obfuscation::TileGeometry& geometry,
               const WeightFacts& facts)
      : Parameter(session, layer, geometry, facts) {}
  Lease acquire(const ConstPlainTensor& plain, const obfuscation::KeyPath& path) override {
    const obfuscation::Pass& pass = session_.pass();
    // Only training steps advance the epoch; an evaluation uses the keys that are there.
    const bool is_step = pass.period == obfuscation::Period::kStep && !facts_.is_public;
    const uint64_t epoch = is_step ? pass.number / static_cast<uint64_t>(session_.options().rekey_interval) : epoch_;
    if (!weight_ || epoch != epoch_) {
      epoch_ = epoch;
      const obfuscation::KeyPath of_epoch{.layer = path.layer,
                                          .pass = {.period = obfuscation::Period::kResidentEpoch, .number = epoch}};
      keys_ = channel_keys(session_, facts_, geometry_, of_epoch);
      weight_ = session_.exchange().send({{Role::kW, weight_side(geometry_, plain.type), {keys_}, 0}, plain, nullptr});
      take_fingerprint(plain, keys_);
    }
    return {weight_.id(), keys_.inner, keys_.right, {}};
  }
  /// It is sent again with the next product: the TEE has it, and its bytes are the same.
  void replicate() override { forget(); }
  void forget() override { weight_ = {}; }

 private:
  uint64_t epoch_ = 0;
  ProductKeys keys_;
  Operand weight_;
};

}  // namespace

WeightFacts facts_of(const BlindingOptions& options) {
  return {.is_resident = options.weights == WeightPlacement::kResident};
}

Parameter::Parameter(Session& session, std::string layer, const obfuscation::TileGeometry& geometry,
                     const WeightFacts& facts)
    : session_(session), layer_(std::move(layer)), geometry_(geometry), facts_(facts) {
  if (!session.verifier().is_on()) return;
  Csprng secret = session.verifier().stream(layer_);
  fingerprint_.emplace(secret, geometry_.images, geometry_.positions(), geometry_.channels);
}

void Parameter::take_fingerprint(const ConstPlainTensor& weight, const ProductKeys& keys) {
  if (!fingerprint_) return;
  const Stopwatch watch(session_.counters().verify_seconds);
  // Probes are of one tap. Where a key mixes taps, they are used as they were drawn.
  const auto inner = geometry_.mixes_positions ? identity(geometry_.channels) : keys.inner;
  use_keys(*fingerprint_, *inner, *keys.right, session_.threads());
  with_element_type(weight.type, [&](auto element) {
    fingerprint_->take(static_cast<decltype(element)>(weight.data), session_.threads());
  });
}

std::unique_ptr<Parameter> make_parameter(Session& session, const std::string& layer,
                                          const obfuscation::TileGeometry& geometry, const WeightFacts& facts) {
  if (facts.is_public && facts.is_trained)
    throw InputError(fmt::format(
        "layer {}: a public weight that is trained, expected a frozen one: its updates would show the data", layer));
  if (!facts.is_resident) return std::make_unique<ReturnedWeight>(session, layer, geometry, facts);
  if (!facts.is_trained) return std::make_unique<FrozenWeight>(session, layer, geometry, facts);
  if (!session.protection().is_orthogonal())
    throw InputError("session: resident weights need a protection with orthogonal keys");
  return std::make_unique<ResidentWeight>(session, layer, geometry);
}

}  // namespace tempo::offload
