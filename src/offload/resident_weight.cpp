#include "offload/resident_weight.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "offload/stopwatch.h"
#include "offload/verifier.h"
#include "tempo/error.h"

namespace tempo::offload {

namespace {

/// Copies a buffer into private memory if the worker shares its memory and could still change it.
Buffer private_copy(const Buffer& buffer) {
  if (!buffer.is_shared()) return buffer;
  Buffer copy = Buffer::allocate(buffer.spec());
  std::memcpy(copy.data(), buffer.data(), buffer.bytes());
  return copy;
}

}  // namespace

ResidentWeight::ResidentWeight(Session& session, const std::string& layer, const obfuscation::TileGeometry& geometry)
    : Parameter(session, layer, geometry, {.is_resident = true}),
      gradient_(session.workers(), session.exchange().new_operand_id()),
      gradient_id_(gradient_.id()) {}

uint64_t ResidentWeight::epoch_of(uint64_t step) const {
  return step / static_cast<uint64_t>(session_.options().rekey_interval);
}

ProductKeys ResidentWeight::derive(uint64_t epoch) {
  const obfuscation::KeyPath path{.layer = layer_,
                                  .pass = {.period = obfuscation::Period::kResidentEpoch, .number = epoch}};
  return {nullptr, session_.derive(path, KeyRole::kInner, geometry_.channels),
          session_.derive(path, KeyRole::kRight, geometry_.images)};
}

KeyedTensor ResidentWeight::keyed(Role role) const { return {role, weight_side(geometry_, type_), {keys_}, 0}; }

Operand ResidentWeight::encrypt(const ConstPlainTensor& plain) {
  // The plain weight goes out of date: from here on only the workers have the current one.
  return session_.exchange().send({keyed(Role::kW), plain, nullptr}, {.is_rekeying = true});
}

void ResidentWeight::zero_velocity() {
  const Buffer zeros = session_.workers().allocate(spec());
  std::memset(zeros.data(), 0, zeros.bytes());
  velocity_ = session_.exchange().send_blinded_unchecked(zeros);
}

Parameter::Lease ResidentWeight::acquire(const ConstPlainTensor& plain, const obfuscation::KeyPath& /*path*/) {
  const obfuscation::Pass& pass = session_.pass();
  // Only training steps advance the epoch; an evaluation uses the keys that are there.
  const bool is_step = pass.period == obfuscation::Period::kStep;
  if (!weight_)
    start(plain, {}, is_step ? pass.number : 0);
  else if (is_step && epoch_of(pass.number) != epoch_)
    rekey(epoch_of(pass.number));
  return {weight_.id(), keys_.inner, keys_.right, {}};
}

void ResidentWeight::start(const ConstPlainTensor& weight, const ConstPlainTensor& velocity, uint64_t step) {
  type_ = weight.type;
  epoch_ = epoch_of(step);
  keys_ = derive(epoch_);
  weight_ = encrypt(weight);
  if (velocity.data == nullptr)
    zero_velocity();
  else
    velocity_ = encrypt(velocity);
  take_fingerprints(weight, velocity);
}

void ResidentWeight::take_fingerprints(const ConstPlainTensor& weight, const ConstPlainTensor& velocity) {
  take_fingerprint(weight, keys_);
  followed_gradient_.reset();
  if (!fingerprint_ || velocity.data == nullptr) return;
  const Stopwatch watch(session_.counters().verify_seconds);
  with_element_type(type_, [&](auto element) {
    fingerprint_->take_velocity(static_cast<decltype(element)>(velocity.data), session_.threads());
  });
}

void ResidentWeight::gradient_followed(integrity::Projections gradient, double error) {
  followed_gradient_ = std::move(gradient);
  followed_error_ = error;
}

void ResidentWeight::verify(const ConstPlainTensor& fetched, bool is_velocity) {
  if (!fingerprint_) return;
  const double roundoff = rounding_model(session_, type_, type_, {}).unit_roundoff;
  double squares = 0;
  const integrity::Projections projected = with_element_type(type_, [&](auto element) {
    return fingerprint_->project(static_cast<decltype(element)>(fetched.data), session_.threads(), &squares);
  });
  session_.verifier().conclude(
      integrity::compare_fetched(projected, is_velocity ? fingerprint_->velocity() : fingerprint_->weight(),
                                 std::sqrt(squares) * fingerprint_->rho_rms(),
                                 is_velocity ? fingerprint_->velocity_drift() : fingerprint_->drift(), roundoff),
      session_.workers().name(), fmt::format("{} of {}", is_velocity ? "fetch of the velocity" : "fetch", layer_));
}

void ResidentWeight::rekey(uint64_t epoch) {
  std::vector<std::byte> weight(static_cast<size_t>(geometry_.elements()) * element_bytes(type_));
  std::vector<std::byte> velocity(weight.size());
  fetch_verified(weight_, {type_, weight.data()});
  fetch_verified(velocity_, {type_, velocity.data()});
  epoch_ = epoch;
  keys_ = derive(epoch);
  weight_ = encrypt({type_, weight.data()});
  velocity_ = encrypt({type_, velocity.data()});
  take_fingerprints({type_, weight.data()}, {type_, velocity.data()});
}

size_t ResidentWeight::replicas() const { return session_.workers().replicas(weight_.id()); }

void ResidentWeight::begin_gradient() {
  // A second backward pass would overwrite the first one's gradient on the worker.
  if (has_gradient_)
    throw InputError(fmt::format(
        "layer {}: two backward passes before one update; resident weights expect one, use weights=returned", layer_));
  squared_norm_value_.reset();
  has_gradient_ = true;
}

void ResidentWeight::gradient_submitted(PendingReply squared_norm) {
  begin_gradient();
  squared_norm_ = std::move(squared_norm);
}

void ResidentWeight::gradient_summed(const Buffer& gradient, bool is_there) {
  begin_gradient();
  // A worker that shares the memory could change it after it was verified.
  const Buffer sum = private_copy(gradient);
  squared_norm_value_ = with_element_type(type_, [&](auto element) {
    const auto* values = reinterpret_cast<decltype(element)>(sum.data());
    double squares = 0;
    for (int64_t i = 0; i < sum.spec().elements(); ++i) squares += static_cast<double>(values[i]) * values[i];
    return squares;
  });
  if (!is_there) session_.workers().put(gradient_id_, sum, {.spread = Spread::kEverywhere});
}

std::optional<double> ResidentWeight::gradient_squared_norm() {
  if (!has_gradient_) return std::nullopt;
  if (!squared_norm_value_) {
    const Buffer reply = session_.exchange().receive(squared_norm_);
    double value = 0;
    std::memcpy(&value, reply.data(), sizeof value);
    if (value < 0)
      throw ProtocolError(
          fmt::format("offload: weight_gradient of {} has a negative squared norm, expected at least 0; "
                      "the step is abandoned",
                      layer_));
    squared_norm_value_ = value;
  }
  return squared_norm_value_;
}

void ResidentWeight::step(const SgdStep& step) {
  if (!has_gradient_) return;
  gradient_squared_norm();  // waits for the gradient; throws if it failed
  PendingReply done = session_.exchange().start(Update{.w = weight_.id(),
                                                       .velocity = velocity_.id(),
                                                       .dw = gradient_id_,
                                                       .step = step.step,
                                                       .learning_rate = step.learning_rate,
                                                       .momentum = step.momentum,
                                                       .weight_decay = step.weight_decay,
                                                       .gradient_scale = step.gradient_scale},
                                                {.type = ElementType::kFloat32, .shape = {0}}, "update of " + layer_);
  has_gradient_ = false;
  if (fingerprint_) {
    if (!followed_gradient_)
      throw InputError(
          fmt::format("layer {}: an update whose gradient was not followed, expected one backward pass", layer_));
    const double roundoff = rounding_model(session_, type_, type_, {}).unit_roundoff;
    fingerprint_->advance(*followed_gradient_,
                          {.learning_rate = step.learning_rate,
                           .momentum = step.momentum,
                           .weight_decay = step.weight_decay,
                           .gradient_scale = step.gradient_scale},
                          followed_error_, roundoff);
    followed_gradient_.reset();
  }
  session_.exchange().receive(done);
}

/// Verifies what was fetched.
class ResidentWeight::FetchCheck final : public ResultCheck {
 public:
  FetchCheck(ResidentWeight& weight, bool is_velocity) : weight_(weight), is_velocity_(is_velocity) {}
  void check(const PlainTensor& result, bool /*is_taken*/) override { weight_.verify(result, is_velocity_); }

 private:
  ResidentWeight& weight_;
  bool is_velocity_;
};

Buffer ResidentWeight::fetch_verified(const Operand& operand, PlainTensor plain) {
  FetchCheck check(*this, operand.id() == velocity_.id());
  PendingReply reply = session_.exchange().start(Fetch{operand.id()}, spec(), "fetch of " + layer_);
  return session_.exchange().finish(reply, {keyed(Role::kWeightGradient), plain}, fingerprint_ ? &check : nullptr);
}

bool ResidentWeight::fetch(const PlainTensor& weight, const PlainTensor& velocity) {
  if (!weight_) return false;
  fetch_verified(weight_, weight);
  if (velocity.data == nullptr) return true;
  fetch_verified(velocity_, velocity);
  // The fingerprint drifts by rounding, so it starts anew from the fetched values.
  if (!has_gradient_) take_fingerprints(weight, velocity);
  return true;
}

std::optional<ResidentState> ResidentWeight::save() {
  if (!weight_) return std::nullopt;
  const auto fetch_private = [&](const Operand& operand) {
    const Buffer scratch = Buffer::allocate(spec());
    return private_copy(fetch_verified(operand, {type_, scratch.data()}));
  };
  return ResidentState{epoch_, fetch_private(weight_), fetch_private(velocity_)};
}

void ResidentWeight::replicate() {
  const std::optional<ResidentState> state = save();
  if (!state) return;
  session_.workers().replicate(weight_.id(), state->weight);
  session_.workers().replicate(velocity_.id(), state->velocity);
}

void ResidentWeight::forget() {
  weight_ = {};
  velocity_ = {};
  squared_norm_ = {};
  squared_norm_value_.reset();
  has_gradient_ = false;
  followed_gradient_.reset();
}

void ResidentWeight::restore(const ResidentState& state) {
  const TensorSpec expected = weight_side(geometry_, state.weight.spec().type).wire;
  if (state.weight.spec() != expected || state.velocity.spec() != expected)
    throw InputError(fmt::format("checkpoint: resident weight {} is {}, expected {}", layer_,
                                 to_string(state.weight.spec()), to_string(expected)));
  type_ = expected.type;
  epoch_ = state.epoch;
  keys_ = derive(epoch_);
  const auto put_copy = [&](const Buffer& from) {
    const Buffer copy = session_.workers().allocate(from.spec());
    std::memcpy(copy.data(), from.data(), from.bytes());
    return session_.exchange().send_blinded_unchecked(copy);
  };
  weight_ = put_copy(state.weight);
  velocity_ = put_copy(state.velocity);
  has_gradient_ = false;
  if (!fingerprint_) return;
  const Buffer weight = Buffer::allocate(expected), velocity = Buffer::allocate(expected);
  session_.exchange().take(state.weight, {keyed(Role::kWeightGradient), {type_, weight.data()}}, nullptr);
  session_.exchange().take(state.velocity, {keyed(Role::kWeightGradient), {type_, velocity.data()}}, nullptr);
  take_fingerprints({type_, weight.data()}, {type_, velocity.data()});
}

}  // namespace tempo::offload
