#include "offload/bilinear_product.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "offload/stopwatch.h"
#include "tempo/error.h"

namespace tempo::offload {

using obfuscation::TileGeometry;

/// One part of a call's activations. Unless the protection splits them, there is one, for all workers.
struct BilinearProduct::Part {
  Holder holder = 0;
  Operand x = {};
  ConstPlainTensor plain_x = {};  // set if it is read again
  double x_energy = 0;            // squared norm of the real x, if there are decoys
  std::unique_ptr<CallVerifier> verifier = nullptr;
  FingerprintVerifier* follower = nullptr;  // the verifier, if the weight's fingerprint follows the gradient
};

struct BilinearProduct::Call {
  ProductLayout layout;
  obfuscation::Pass pass;
  uint64_t number = 0;  // use of the layer within the pass
  std::vector<ProductKeys> keys = {};
  Slices slices = {};  // slices of the rows of x, dy, y and dx
  Operand w = {};      // empty with resident weights
  OperandId w_id = 0;
  ConstPlainTensor plain_w = {};  // set if it is read again
  std::shared_ptr<const obfuscation::ChannelAffine> map = nullptr;
  std::vector<Part> parts = {};

  /// The operand whose cut into rows all others of a part have.
  [[nodiscard]] OperandId lead(const Part& part) const { return layout.w.spread == Spread::kRows ? w_id : part.x.id(); }
};

void BilinearProduct::CallDeleter::operator()(Call* call) const noexcept { delete call; }

/// An activation that is about to be sent, and what verification and decoys need of it.
struct BilinearProduct::Outgoing {
  Role role = Role::kX;
  Inputs plain;
  Probe probe;
  obfuscation::PixelProducts products = {};  // taken on the way; none: measured already
  double energy = 0;                         // squared norm, if there are decoys
};

/// The operands and replies of one backward pass.
struct BilinearProduct::Backward {
  struct PartOfIt {
    Outgoing dy;
    Operand dy_for_dx = {};
    PendingReply dx_reply = {};
  };
  std::vector<ProductKeys> dx_keys = {}, dw_keys = {};
  std::vector<PartOfIt> parts = {};
  Operand w_again = {}, x_again = {}, dy_for_dw = {};
  PendingReply dw_reply = {};
  bool is_kept = false;     // one worker computes and keeps the gradient of a resident weight
  bool sums_there = false;  // the workers sum it among themselves
};

/// Where the results of the parts go: into the result itself if there is one part, else into memory that is summed.
class BilinearProduct::Targets {
 public:
  Targets(size_t parts, const PlainTensor& result, int64_t elements) : result_(result), elements_(elements) {
    for (size_t i = 1; i < parts; ++i) rooms_.push_back(Buffer::allocate({.type = result.type, .shape = {elements}}));
  }
  [[nodiscard]] PlainTensor of(size_t part) const {
    return part == 0 ? result_ : PlainTensor{result_.type, rooms_[part - 1].data()};
  }
  void combine(ThreadPool& threads) const {
    for (const Buffer& room : rooms_) obfuscation::add(result_, room.data(), elements_, threads);
  }

 private:
  PlainTensor result_;
  int64_t elements_;
  std::vector<Buffer> rooms_;
};

BilinearProduct::BilinearProduct(Session& session, std::string layer, const ProductGeometry& geometry)
    : BilinearProduct(session, std::move(layer), geometry, facts_of(session.options())) {}

BilinearProduct::BilinearProduct(Session& session, std::string layer, const ProductGeometry& geometry,
                                 const WeightFacts& facts)
    : session_(session), layer_(std::move(layer)), geometry_(geometry) {
  parameter_ = make_parameter(session, layer_, weight_cut(session, geometry), facts);
  resident_ = dynamic_cast<ResidentWeight*>(parameter_.get());
}

BilinearProduct::BilinearProduct(Session& session, std::string layer) : session_(session), layer_(std::move(layer)) {}

int64_t BilinearProduct::out_height(int64_t height) const {
  return obfuscation::ConvAxis{height, geometry_.kernel_h, geometry_.stride, geometry_.padding, geometry_.dilation}
      .outputs();
}
int64_t BilinearProduct::out_width(int64_t width) const {
  return obfuscation::ConvAxis{width, geometry_.kernel_w, geometry_.stride, geometry_.padding, geometry_.dilation}
      .outputs();
}

obfuscation::KeyPath BilinearProduct::path_of(const Call& call, const Contraction& of, size_t item) const {
  // Under reuse=split both products of the backward pass have the same keys.
  const bool splits = session_.options().reuse == Reuse::kSplit;
  const uint64_t purpose = splits && of.purpose == kWeightGradient.purpose ? kInputGradient.purpose : of.purpose;
  return {.layer = layer_, .pass = call.pass, .call = call.number, .item = item, .purpose = purpose};
}

bool BilinearProduct::is_renewed(KeyRole role, const Contraction& of) const {
  const bool is_fixed = parameter_ && parameter_->has_fixed_keys() && role != KeyRole::kLeft;
  if (is_fixed) return false;
  switch (session_.options().reuse) {
    case Reuse::kFull:
      return false;
    case Reuse::kSplit:
      // dW is a product of X, which is there under the keys of the forward pass, and of dY.
      return role == KeyRole::kRight || (role == KeyRole::kInner && of.result == Role::kInputGradient);
    case Reuse::kFresh:
      return role == of.fresh;
    case Reuse::kNone:
      return true;
  }
  return true;
}

std::vector<ProductKeys> BilinearProduct::derive(const Call& call, const Contraction& of) {
  std::vector<ProductKeys> keys = call.keys;
  keys.resize(call.layout.items);
  for (size_t item = 0; item < keys.size(); ++item) {
    const obfuscation::KeyPath path = path_of(call, of, item);
    const auto draw = [&](std::shared_ptr<const obfuscation::Key>& key, KeyRole role, int64_t size) {
      if (key == nullptr || is_renewed(role, of)) key = session_.derive(path, role, size);
    };
    draw(keys[item].left, KeyRole::kLeft, call.layout.rows);
    draw(keys[item].inner, KeyRole::kInner, call.layout.inner);
    draw(keys[item].right, KeyRole::kRight, call.layout.outer);
  }
  return keys;
}

KeyedTensor BilinearProduct::keyed(const Call& call, Role role, const std::vector<ProductKeys>& keys) const {
  const bool has_decoys = role != Role::kW && role != Role::kWeightGradient;
  return {role, call.layout.side(role), keys, has_decoys ? call.layout.decoys.images() : 0};
}

bool BilinearProduct::takes_moments() const {
  return session_.protection().fits_taps() && parameter_ && !parameter_->keeps_gradient() &&
         !parameter_->facts().is_public;
}

bool BilinearProduct::makes_operand() const {
  // Decoys and resident weights read an operand before it is blinded, or once more. Neither exists under keys that fit
  // taps. Verifying a kernel of several taps needs more products of a pixel than can be computed on the way.
  return takes_moments() && (!session_.verifier().is_on() || geometry_.kernel_h * geometry_.kernel_w == 1);
}

bool BilinearProduct::keeps_operands() const {
  const bool verifies = session_.verifier().is_on() && (resident_ != nullptr || !parameter_);
  return session_.options().reuse == Reuse::kNone || verifies || session_.exchange().workers().is_redundant();
}

bool BilinearProduct::sends_second_again() const { return is_renewed(KeyRole::kInner, kInputGradient); }

void BilinearProduct::expect_no_map(const Inputs& in) const {
  if (in.map)
    throw InputError(fmt::format(
        "layer {}: an operand that is made while it is blinded, but is needed before; expected one in memory", layer_));
}

void BilinearProduct::begin_verification(Call& call, const Inputs& in) {
  Verifier& verifier = session_.verifier();
  const bool is_checked = verifier.draw();
  // A resident weight's fingerprint must follow every update, checked or not.
  const bool is_followed = verifier.is_on() && resident_ != nullptr && call.pass.period == obfuscation::Period::kStep;
  if (!is_checked && !is_followed) return;
  if (parameter_) parameter_->refresh_fingerprint(in.w);
  for (Part& part : call.parts) verify(call, part, {is_checked, is_followed}, in.w);
}

void BilinearProduct::verify(Call& call, Part& part, const Verification& how, const ConstPlainTensor& w) {
  const ProductLayout& layout = call.layout;
  VerifiedCall verified{.layer = layer_,
                        .type = layout.type,
                        .rounding = rounding_model(session_, layout.type, layout.x.wire.type, layout.decoys),
                        .is_checked = how.is_checked};
  if (!parameter_) {
    const auto& [batch, n, d, m] = layout.batch;
    part.verifier =
        std::make_unique<MatmulVerifier>(session_, std::move(verified), integrity::MatmulShape{batch, n, d, m});
    part.verifier->see(Role::kW, {}, w);
    return;
  }
  const ProductGeometry& g = geometry_;
  const integrity::ProductShape shape{.images = layout.images.images,
                                      .height = layout.images.height,
                                      .width = layout.images.width,
                                      .in = g.in,
                                      .out_height = layout.y.geometry.height,
                                      .out_width = layout.y.geometry.width,
                                      .out = g.out,
                                      .kernel_h = g.kernel_h,
                                      .kernel_w = g.kernel_w,
                                      .stride = g.stride,
                                      .padding = g.padding,
                                      .dilation = g.dilation};
  auto follower = std::make_unique<FingerprintVerifier>(session_, std::move(verified), shape,
                                                        *parameter_->fingerprint(), how.is_followed);
  part.follower = follower.get();
  part.verifier = std::move(follower);
}

BilinearProduct::Outgoing BilinearProduct::prepare(const Call& call, const Part& part, Role role, const Inputs& plain) {
  Outgoing outgoing{.role = role, .plain = plain, .probe = {}};
  Probe& probe = outgoing.probe;
  if (part.verifier) probe = part.verifier->probe_of(role);
  const KeyedTensor tensor = keyed(call, role, call.keys);
  if (probe && tensor.decoy_images == 0) {
    // The figures live in the probe's vectors, which stay where they are when it moves.
    outgoing.products = probe.want();
    if (!obfuscation::supports({.products = outgoing.products}, tensor.blinding(0))) outgoing.products = {};
  }
  if (probe && outgoing.products.count == 0) {
    expect_no_map(plain);
    const Stopwatch watch(session_.counters().verify_seconds);
    probe.measure(plain.x, session_.threads());
  }
  // Decoys are scaled by the energy of the real images, which must be known before those are blinded.
  if (tensor.decoy_images > 0)
    outgoing.energy = probe ? probe.energy() : squared_norm(plain.x, tensor.plain_elements(), session_.threads());
  return outgoing;
}

void BilinearProduct::settle(Part& part, Outgoing& outgoing) {
  if (outgoing.products.count > 0) outgoing.probe.arrived();
  if (part.verifier) part.verifier->see(outgoing.role, outgoing.probe, outgoing.plain.x);
}

std::vector<ConstPlainTensor> BilinearProduct::split(const Call& call, const Contraction& of,
                                                     const ConstPlainTensor& plain) {
  if (call.parts.size() == 1) return {plain};
  const KeyedTensor tensor = keyed(call, of.first, call.keys);
  const Stopwatch watch(session_.counters().blind_seconds);
  std::vector<ConstPlainTensor> views;
  std::vector<PlainTensor> parts;
  for (size_t i = 0; i < call.parts.size(); ++i) {
    const Buffer room = Buffer::allocate({.type = plain.type, .shape = {tensor.plain_elements()}});
    parts.push_back({plain.type, room.data()});
    views.emplace_back(plain.type, room.data(), room.owner());
  }
  Csprng random(session_.noise_seed(path_of(call, of, 0), KeyRole::kLeft));
  session_.protection().split(plain, tensor.plain_elements(), random, parts);
  return views;
}

Operand BilinearProduct::send(const Call& call, const Part& part, const Contraction& of,
                              const std::vector<ProductKeys>& keys, const Outgoing& outgoing) {
  const DecoyPlan& plan = call.layout.decoys;
  BlindedOperand operand{keyed(call, outgoing.role, keys), outgoing.plain.x, outgoing.plain.map};
  if (plan.images() > 0) {
    SecretKey seed = session_.noise_seed(path_of(call, of, 0), operand.tensor.side.channels);
    // X has noise where dY has zeros and the other way round.
    if (outgoing.role == Role::kX)
      operand.decoys = {0, plan.in_input, plan.in_output, plan.input_energy * outgoing.energy, std::move(seed)};
    else
      operand.decoys = {plan.in_input, plan.in_output, 0, plan.output_energy * outgoing.energy, std::move(seed)};
  }
  return session_.exchange().send(
      std::move(operand),
      {.slices = call.slices, .like = call.lead(part), .products = outgoing.products, .holder = part.holder});
}

Operand BilinearProduct::send_second(const Call& call, const std::vector<ProductKeys>& keys,
                                     const ConstPlainTensor& w) {
  return session_.exchange().send({keyed(call, kForward.second, keys), w, nullptr}, {.like = call.w_id});
}

PendingReply BilinearProduct::start(const Contraction& of, Operation operation, const TensorSpec& expected) {
  return session_.exchange().start(std::move(operation), expected, fmt::format("{} of {}", of.name, layer_));
}

Buffer BilinearProduct::finish(const Call& call, const Part& part, PendingReply& reply, const BlindedResult& result) {
  const auto check = part.verifier ? part.verifier->check_of(result.tensor) : nullptr;
  const bool is_sliced = result.tensor.role != Role::kWeightGradient;
  return session_.exchange().finish(reply, result, check.get(), is_sliced ? call.slices : Slices());
}

BilinearProduct::UniqueCall BilinearProduct::forward(const ImageShape& shape, const Inputs& in, const Outputs& out) {
  if (!makes_operand()) expect_no_map(in);
  return run(layout_of(session_, geometry_, shape, in.x.type), in, out);
}

BilinearProduct::UniqueCall BilinearProduct::forward(const BatchShape& shape, const Inputs& in, const Outputs& out) {
  expect_no_map(in);
  if (session_.protection().parts() > 1)
    throw InputError(fmt::format(
        "layer {}: a product of two activations under a protection that splits operands, expected it in the TEE",
        layer_));
  return run(layout_of(session_, shape, in.x.type), in, out);
}

void BilinearProduct::lease_weight(Call& call, const ConstPlainTensor& w) {
  if (!parameter_) {
    call.keys = derive(call, kForward);
    call.w = send_second(call, call.keys, w);
    call.w_id = call.w.id();
    return;
  }
  const obfuscation::KeyPath path = path_of(call, kForward, 0);
  Parameter::Lease lease = parameter_->acquire(w, path);
  call.keys = {{session_.derive(path, KeyRole::kLeft, call.layout.rows), lease.inner, lease.right}};
  call.w_id = lease.weight;
  call.w = std::move(lease.held);
}

BilinearProduct::UniqueCall BilinearProduct::run(ProductLayout layout, const Inputs& in, const Outputs& out) {
  UniqueCall call(new Call{.layout = std::move(layout), .pass = session_.pass(), .number = calls_.next(session_)});
  const auto count = static_cast<size_t>(session_.protection().parts());
  for (size_t i = 0; i < count; ++i) call->parts.push_back({.holder = count == 1 ? 0 : static_cast<Holder>(i + 1)});
  lease_weight(*call, in.w);
  const Side &x = call->layout.x, &y = call->layout.y;
  if (parameter_ && count == 1) {
    const auto largest = static_cast<size_t>(std::max(x.geometry.elements(), y.geometry.elements()));
    call->slices = session_.exchange().slices_of(*call->keys.front().left, x.wire.panels, session_.options().slices,
                                                 largest * element_bytes(x.wire.type));
  }
  begin_verification(*call, in);
  call->map = in.map;
  const bool reads_again = session_.options().reuse == Reuse::kNone;
  if (sends_second_again()) call->plain_w = in.w;

  const std::vector<ConstPlainTensor> plain = split(*call, kForward, in.x);
  std::vector<Outgoing> outgoing;
  std::vector<PendingReply> replies;
  for (size_t i = 0; i < count; ++i) {
    Part& part = call->parts[i];
    outgoing.push_back(prepare(*call, part, kForward.first, {plain[i], in.w, in.map}));
    part.x_energy = outgoing[i].energy;
    if (reads_again || (resident_ != nullptr && part.follower != nullptr)) part.plain_x = plain[i];
    part.x = send(*call, part, kForward, call->keys, outgoing[i]);
    replies.push_back(start(kForward,
                            Forward{.product = call->layout.product,
                                    .x = part.x.id(),
                                    .w = call->w_id,
                                    .reply_type = y.wire.type,
                                    .reply_panels = y.wire.panels},
                            y.wire));
  }
  const KeyedTensor result = keyed(*call, kForward.result, call->keys);
  const Targets targets(count, out.y, result.plain_elements());
  for (size_t i = 0; i < count; ++i) {
    settle(call->parts[i], outgoing[i]);
    finish(*call, call->parts[i], replies[i], {result, targets.of(i), {.moments = out.moments}});
  }
  targets.combine(session_.threads());
  session_.counters().flops += call->layout.flops * static_cast<double>(count);
  return call;
}

void BilinearProduct::start_input_gradient(const Call& call, Backward& state) {
  if (sends_second_again()) state.w_again = send_second(call, state.dx_keys, call.plain_w);
  const TensorSpec& spec = call.layout.x.wire;
  for (size_t i = 0; i < call.parts.size(); ++i) {
    auto& part = state.parts[i];
    part.dy_for_dx = send(call, call.parts[i], kInputGradient, state.dx_keys, part.dy);
    part.dx_reply = start(kInputGradient,
                          InputGradient{.product = call.layout.product,
                                        .dy = part.dy_for_dx.id(),
                                        .w = state.w_again ? state.w_again.id() : call.w_id,
                                        .x_shape = spec.shape,
                                        .reply_type = spec.type,
                                        .reply_panels = spec.panels},
                          spec);
    session_.counters().flops += call.layout.flops;
  }
}

WeightGradient BilinearProduct::weight_gradient(const Call& call, const Backward& state, OperandId keep_as) const {
  return {.product = call.layout.product,
          .x = state.x_again ? state.x_again.id() : call.parts.front().x.id(),
          .dy = state.dy_for_dw ? state.dy_for_dw.id() : state.parts.front().dy_for_dx.id(),
          .w_shape = call.layout.w.wire.shape,
          .reply_type = call.layout.w.wire.type,
          .keep_as = keep_as};
}

void BilinearProduct::start_weight_gradient(const Call& call, Backward& state) {
  const Part& part = call.parts.front();
  // If several workers each have a part of the sum, it is summed here and given back to all of them.
  state.is_kept = resident_ != nullptr && resident_->replicas() == 1 && session_.workers().is_whole(part.x.id());
  state.sums_there = resident_ != nullptr && !state.is_kept && session_.workers().sums_between_workers();
  const Reuse reuse = session_.options().reuse;
  if (reuse == Reuse::kNone) {
    const Outgoing x{
        .role = kWeightGradient.first, .plain = {part.plain_x, {}, call.map}, .probe = {}, .energy = part.x_energy};
    state.x_again = send(call, part, kWeightGradient, state.dw_keys, x);
  }
  const bool shares_dy = reuse == Reuse::kFull || reuse == Reuse::kSplit;
  if (!shares_dy || !state.parts.front().dy_for_dx)
    state.dy_for_dw = send(call, part, kWeightGradient, state.dw_keys, state.parts.front().dy);
  const TensorSpec norm{.type = ElementType::kFloat64, .shape = {1}};
  if (!state.sums_there)
    state.dw_reply = start(kWeightGradient, weight_gradient(call, state, state.is_kept ? resident_->gradient_id() : 0),
                           state.is_kept ? norm : call.layout.w.wire);
  session_.counters().flops += call.layout.flops;
}

void BilinearProduct::backward(Call& call, const ConstPlainTensor& dy, const Gradients& out) {
  const bool renews = session_.options().reuse != Reuse::kFull, wants_dx = out.dx.data != nullptr;
  if (out.want_dw && call.parts.size() > 1)
    throw InputError(fmt::format(
        "layer {}: the gradient of a weight under a protection that splits operands, expected a frozen weight",
        layer_));
  if (out.want_dw && parameter_ && !parameter_->facts().is_trained)
    throw InputError(fmt::format("layer {}: the gradient of a frozen weight, expected one that is trained", layer_));
  Backward state;
  state.dx_keys = renews && wants_dx ? derive(call, kInputGradient) : call.keys;
  state.dw_keys = renews && out.want_dw ? derive(call, kWeightGradient) : call.keys;
  const std::vector<ConstPlainTensor> plain = split(call, kInputGradient, dy);
  for (size_t i = 0; i < plain.size(); ++i)
    state.parts.push_back({.dy = prepare(call, call.parts[i], kInputGradient.first, {plain[i], {}, nullptr})});
  if (wants_dx) start_input_gradient(call, state);
  if (out.want_dw) start_weight_gradient(call, state);
  for (size_t i = 0; i < plain.size(); ++i) settle(call.parts[i], state.parts[i].dy);
  if (wants_dx) finish_input_gradient(call, state, out);
  if (out.want_dw) finish_weight_gradient(call, state, out.dw);
}

void BilinearProduct::finish_input_gradient(const Call& call, Backward& state, const Gradients& out) {
  const KeyedTensor result = keyed(call, kInputGradient.result, state.dx_keys);
  const Targets targets(call.parts.size(), out.dx, result.plain_elements());
  for (size_t i = 0; i < call.parts.size(); ++i)
    finish(call, call.parts[i], state.parts[i].dx_reply,
           {result, targets.of(i), {.addend = i == 0 ? out.addend.data : nullptr}});
  targets.combine(session_.threads());
}

void BilinearProduct::finish_weight_gradient(const Call& call, Backward& state, const PlainTensor& dw) {
  const Part& part = call.parts.front();
  const BlindedResult result{keyed(call, kWeightGradient.result, state.dw_keys), {call.layout.type, dw.data}};
  if (resident_ == nullptr) {
    finish(call, part, state.dw_reply, result);
    return;
  }
  if (state.is_kept) {
    resident_->gradient_submitted(std::move(state.dw_reply));
    return follow_gradient(part);
  }
  if (state.sums_there) {
    if (take_sum_of_workers(call, state, result)) return;
    state.dw_reply = start(kWeightGradient, weight_gradient(call, state, 0), call.layout.w.wire);
  }
  const Buffer sum = finish(call, part, state.dw_reply, result);
  follow_gradient(part);
  resident_->gradient_summed(sum, false);
}

bool BilinearProduct::take_sum_of_workers(const Call& call, const Backward& state, const BlindedResult& result) {
  const Part& part = call.parts.front();
  std::optional<Buffer> sum;
  {
    const Stopwatch watch(session_.counters().wait_seconds);
    sum = session_.workers().sum_there(weight_gradient(call, state, resident_->gradient_id()), call.layout.w.wire,
                                       fmt::format("sum of {} of {}", kWeightGradient.name, layer_));
  }
  if (!sum) return false;
  const auto check = part.verifier ? part.verifier->check_of(result.tensor) : nullptr;
  try {
    session_.exchange().take(*sum, result, check.get());
  } catch (const IntegrityError&) {
    return false;  // The sum does not show whose part was wrong: the parts are computed again and come here.
  }
  follow_gradient(part);
  resident_->gradient_summed(*sum, true);
  return true;
}

void BilinearProduct::follow_gradient(const Part& part) {
  if (part.follower == nullptr) return;
  const Stopwatch watch(session_.counters().verify_seconds);
  part.follower->follow_gradient(part.plain_x, *resident_);
}

}  // namespace tempo::offload
