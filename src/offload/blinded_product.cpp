#include "offload/blinded_product.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "offload/blinded_product_call.h"
#include "offload/stopwatch.h"
#include "tempo/error.h"

namespace tempo::offload {

using obfuscation::ConvTiling;
using obfuscation::Form;
using obfuscation::KeyRole;
using obfuscation::TileGeometry;

void BlindedProduct::CallDeleter::operator()(Call* call) const noexcept { delete call; }

BlindedProduct::BlindedProduct(Session& session, std::string layer, const ProductGeometry& geometry)
    : session_(session),
      layer_(std::move(layer)),
      geometry_(geometry),
      weight_geometry_(obfuscation::weight_geometry(geometry.out, geometry.kernel_h, geometry.kernel_w, geometry.in)) {
  if (session.options().weights == WeightPlacement::kResident)
    resident_.emplace(session, layer_, weight_geometry_, weight_wire_shape());
  if (resident_ || !session.verifier().is_on()) return;
  Csprng secret = session.verifier().stream(layer_);
  fingerprint_.emplace(secret, geometry.out, geometry.kernel_h * geometry.kernel_w, geometry.in);
}

int64_t BlindedProduct::out_height(int64_t height) const {
  return obfuscation::ConvAxis{height, geometry_.kernel_h, geometry_.stride, geometry_.padding, geometry_.dilation}
      .outputs();
}
int64_t BlindedProduct::out_width(int64_t width) const {
  return obfuscation::ConvAxis{width, geometry_.kernel_w, geometry_.stride, geometry_.padding, geometry_.dilation}
      .outputs();
}

obfuscation::KeyPath BlindedProduct::path_of(const Call& call, uint64_t purpose) const {
  return {.layer = layer_, .pass = call.pass, .call = call.call, .purpose = purpose};
}

ProductKeys BlindedProduct::derive(const Call& call, uint64_t purpose, bool left, bool inner, bool right,
                                   const ProductKeys& otherwise) {
  const obfuscation::KeyPath path = path_of(call, purpose);
  ProductKeys keys = otherwise;
  if (left) keys.left = session_.derive(path, KeyRole::kLeft, call.cut.input.rows());
  if (inner) keys.inner = session_.derive(path, KeyRole::kInner, geometry_.in);
  if (right) keys.right = session_.derive(path, KeyRole::kRight, geometry_.out);
  return keys;
}

BlindedProduct::Blinding BlindedProduct::blinding_of_x(const Call& call, ConstPlainTensor x, const ProductKeys& keys,
                                                       uint64_t purpose, const ProductsOnTheWay& products) {
  return [this, &call, x, keys, purpose, products](OperandId id, const Session::Slices& slices) {
    const DecoyPlan& plan = call.decoys;
    Session::BlindItem item{x, {keys.left.get(), Form::kDirect}, {keys.inner.get(), Form::kDirect}};
    item.products = products;
    item.map = call.map;
    Buffer decoys;
    if (plan.images() > 0) {
      Csprng noise = session_.noise(path_of(call, purpose), KeyRole::kInner);
      decoys = make_decoys(x.type, call.shape.height * call.shape.width * geometry_.in, 0, plan.in_input,
                           plan.in_output, plan.input_energy * call.input_energy, noise);
      item.decoy_images = plan.images();
      item.decoys = decoys.data();
    }
    return session_.blind(id, {item}, call.cut.input, call.wire, call.wire_shape(call.cut.input), slices);
  };
}

BlindedProduct::Blinding BlindedProduct::blinding_of_w(const Call& call, ConstPlainTensor w, const ProductKeys& keys) {
  return [this, &call, w, keys](OperandId id, const Session::Slices&) {
    return session_.blind(id, {{w, {keys.right.get(), Form::kDirect}, {keys.inner.get(), Form::kInverseTranspose}}},
                          weight_geometry_, call.type, weight_wire_shape());
  };
}

BlindedProduct::Blinding BlindedProduct::blinding_of_dy(const Call& call, ConstPlainTensor dy, const ProductKeys& keys,
                                                        uint64_t purpose, const ProductsOnTheWay& products) {
  return [this, &call, dy, keys, purpose, products](OperandId id, const Session::Slices& slices) {
    const TileGeometry& out = call.cut.output;
    const DecoyPlan& plan = call.decoys;
    Session::BlindItem item{
        dy, {keys.left.get(), Form::kInverseTranspose}, {keys.right.get(), Form::kInverseTranspose}};
    item.products = products;
    Buffer decoys;
    if (plan.images() > 0) {
      Csprng noise = session_.noise(path_of(call, purpose), KeyRole::kRight);
      decoys = make_decoys(dy.type, out.height * out.width * geometry_.out, plan.in_input, plan.in_output, 0,
                           plan.output_energy * call.output_gradient_energy, noise);
      item.decoy_images = plan.images();
      item.decoys = decoys.data();
    }
    return session_.blind(id, {item}, out, call.wire, call.wire_shape(out), slices);
  };
}

void BlindedProduct::set_sources(const Call& call, ConstPlainTensor x, ConstPlainTensor w) {
  const auto source = [](const Operand& operand, const ConstPlainTensor& plain, const auto& blinding) {
    if (plain.data == nullptr) return operand.set_source();
    operand.set_source([make = blinding(), id = operand.id()] { return make(id, {}); });
  };
  source(call.x, x, [&] { return blinding_of_x(call, x, call.keys, 0); });
  if (call.w) source(call.w, w, [&] { return blinding_of_w(call, w, call.keys); });
}

bool BlindedProduct::works_on_the_way() const {
  return session_.options().protection == Protection::kPermuted && !resident_ && !session_.is_observed();
}

bool BlindedProduct::makes_operand() const {
  // Decoys and resident weights read an operand before it is blinded, or once more. Neither exists under keys that work
  // on the way. Verifying a kernel of several taps needs more products of a pixel than can be computed on the way.
  return works_on_the_way() && (!session_.verifier().is_on() || geometry_.kernel_h * geometry_.kernel_w == 1);
}

void BlindedProduct::expect_no_map(const obfuscation::PixelMap& map) const {
  if (map)
    throw InputError(fmt::format(
        "layer {}: an operand that is made while it is blinded, but is needed before; expected one in memory", layer_));
}

BlindedProduct::UniqueCall BlindedProduct::forward(const ImageShape& shape, ConstPlainTensor x, ConstPlainTensor w,
                                                   PlainTensor y, obfuscation::PixelMap map,
                                                   const MomentsOnTheWay& moments) {
  if (!makes_operand()) expect_no_map(map);
  UniqueCall call(new Call);
  call->map = std::move(map);
  call->shape = shape;
  call->pass = session_.pass();
  call->call = calls_.next(session_);
  call->type = x.type;
  call->wire = session_.wire_type(x.type);
  const auto& g = geometry_;
  const auto cut = [&](int64_t images) {
    return obfuscation::tile_convolution(images, {shape.height, g.kernel_h, g.stride, g.padding, g.dilation},
                                         {shape.width, g.kernel_w, g.stride, g.padding, g.dilation}, g.in, g.out,
                                         session_.options().conv_tile);
  };
  call->decoys = plan_decoys(session_.options(), shape.images, cut(shape.images));
  call->cut = cut(shape.images + call->decoys.images());
  const TileGeometry& out = call->cut.output;
  call->product.precision = session_.options().products;
  if (out.positions() > 1)
    call->product = {.kind = ProductKind::kConv2d,
                     .stride_h = g.stride,
                     .stride_w = g.stride,
                     .dilation_h = out.tile_h == 1 ? 1 : g.dilation,
                     .dilation_w = out.tile_w == 1 ? 1 : g.dilation,
                     .precision = call->product.precision};
  call->flops = 2.0 * static_cast<double>(shape.images * out.height * out.width) *
                static_cast<double>(weight_geometry_.elements());

  if (resident_) {
    const auto lease = resident_->acquire(w);
    call->keys = derive(*call, 0, true, false, false, {.left = nullptr, .inner = lease.inner, .right = lease.right});
    call->w_id = lease.weight;
  } else {
    call->keys = derive(*call, 0, true, true, true, {});
    call->w = session_.send(Spread::kEverywhere, blinding_of_w(*call, w, call->keys));
    call->w_id = call->w.id();
  }
  const auto largest = static_cast<size_t>(std::max(call->cut.input.elements(), out.elements()));
  call->slices = session_.slices_of(*call->keys.left, largest * element_bytes(call->wire));
  begin_verification(*call, w);
  Probe of_x = call->verifier ? call->verifier->of_input() : Probe();
  // Decoys are scaled by the energy of x, which must therefore be known before x is blinded.
  const bool on_the_way = call->decoys.images() == 0 && of_x.fits(*call->keys.left, *call->keys.inner);
  if (of_x && !on_the_way) {
    expect_no_map(call->map);
    measure(of_x, x);
  }
  if (call->decoys.images() > 0)
    call->input_energy =
        of_x ? of_x.energy() : squared_norm(x, shape.images * shape.height * shape.width * g.in, session_.threads());
  call->x = session_.send(Spread::kRows,
                          blinding_of_x(*call, x, call->keys, 0, on_the_way ? of_x.on_the_way() : ProductsOnTheWay()),
                          {}, call->slices);
  if (on_the_way) of_x.arrived();
  if (of_x) call->verifier->see_input(of_x);
  PendingReply reply =
      session_.submit(Forward{.product = call->product, .x = call->x.id(), .w = call->w_id, .reply_type = call->wire},
                      {.type = call->wire, .shape = call->wire_shape(out)}, "forward of " + layer_);
  session_.accept_rows(reply, call->slices, [&](const Session::ArrivingReply& blinded) {
    Session::UnblindItem item{
        y, {call->keys.left.get(), Form::kInverse}, {call->keys.right.get(), Form::kInverse}, call->decoys.images()};
    item.moments = moments;
    unblind_and_check(blinded, out, item, call->verifier ? call->verifier->of_output() : Probe(),
                      [&](const Probe& found) {
                        call->verifier->check_output(found, largest_mixed(out, {call->keys.left.get(), Form::kDirect}));
                      });
  });
  set_sources(*call, {}, {});  // the caller may change x and w from now on
  session_.count_product(call->flops);
  return call;
}

void BlindedProduct::backward(Call& call, ConstPlainTensor x, ConstPlainTensor w, ConstPlainTensor dy, PlainTensor dx,
                              PlainTensor dw, bool want_dw, ConstPlainTensor addend) {
  const Reuse reuse = session_.options().reuse;
  const bool fresh = reuse != Reuse::kFull;
  const bool renew_all = reuse == Reuse::kNone;
  const bool want_dx = dx.data != nullptr;
  // dX = L^T dX~ M^T needs the right key of W~ only to cancel; dW~ = M^T dW R^-T needs the left key of X~ only to
  // cancel.
  const ProductKeys dx_keys = fresh && want_dx ? derive(call, 1, true, renew_all, renew_all, call.keys) : call.keys;
  const ProductKeys dw_keys = fresh && want_dw ? derive(call, 2, renew_all, renew_all, true, call.keys) : call.keys;

  set_sources(call, x, w);
  Operand w_again, x_again, dy_for_dx, dy_for_dw;
  PendingReply dx_reply, dw_reply;
  Probe of_dy = call.verifier ? call.verifier->of_output_gradient() : Probe();
  const bool on_the_way = call.decoys.images() == 0 && of_dy.fits(*call.keys.left, *call.keys.right);
  const ProductsOnTheWay products = on_the_way ? of_dy.on_the_way() : ProductsOnTheWay();
  if (of_dy && !on_the_way) measure(of_dy, dy);
  if (call.decoys.images() > 0)
    call.output_gradient_energy =
        of_dy ? of_dy.energy()
              : squared_norm(dy, call.shape.images * call.cut.output.height * call.cut.output.width * geometry_.out,
                             session_.threads());
  if (want_dx) {
    if (renew_all) w_again = session_.send(Spread::kEverywhere, blinding_of_w(call, w, dx_keys));
    dy_for_dx = session_.send(Spread::kRows, blinding_of_dy(call, dy, dx_keys, 1, products), call.x, call.slices);
    dx_reply =
        session_.submit(InputGradient{.product = call.product,
                                      .dy = dy_for_dx.id(),
                                      .w = renew_all ? w_again.id() : call.w_id,
                                      .x_shape = call.wire_shape(call.cut.input),
                                      .reply_type = call.wire},
                        {.type = call.wire, .shape = call.wire_shape(call.cut.input)}, "input_gradient of " + layer_);
    session_.count_product(call.flops);
  }
  // If several workers each have a part of the sum, it is summed here and given back to all of them.
  const bool is_kept = resident_ && resident_->replicas() == 1 && session_.workers().is_whole(call.x.id());
  const bool sums_there = resident_ && !is_kept && session_.workers().sums_between_workers();
  const auto weight_gradient = [&](OperandId keep_as) {
    return WeightGradient{.product = call.product,
                          .x = renew_all ? x_again.id() : call.x.id(),
                          .dy = dy_for_dw ? dy_for_dw.id() : dy_for_dx.id(),
                          .w_shape = weight_wire_shape(),
                          .reply_type = call.type,
                          .keep_as = keep_as};
  };
  const TensorSpec w_spec{.type = call.type, .shape = weight_wire_shape()};
  const std::string dw_name = "weight_gradient of " + layer_;
  if (want_dw) {
    if (renew_all) x_again = session_.send(Spread::kRows, blinding_of_x(call, x, dw_keys, 2), call.x, call.slices);
    if (fresh || !want_dx)
      dy_for_dw = session_.send(Spread::kRows, blinding_of_dy(call, dy, dw_keys, 2, products), call.x, call.slices);
    const TensorSpec norm{.type = ElementType::kFloat64, .shape = {1}};
    if (!sums_there)
      dw_reply =
          session_.submit(weight_gradient(is_kept ? resident_->gradient_id() : 0), is_kept ? norm : w_spec, dw_name);
    session_.count_product(call.flops);
  }
  if (on_the_way) of_dy.arrived();
  if (of_dy) call.verifier->see_output_gradient(of_dy);
  if (want_dx) accept_input_gradient(call, dx_reply, dx_keys, dx, addend.data);
  if (!want_dw) return;
  if (sums_there) {
    if (accept_sum_of_workers(call, weight_gradient(resident_->gradient_id()), dw_keys, x)) return;
    dw_reply = session_.submit(weight_gradient(0), w_spec, dw_name);
  }
  if (!is_kept) return accept_weight_gradient(call, dw_reply, dw_keys, x, dw);
  resident_->gradient_submitted(std::move(dw_reply));
  follow_gradient(call, x);
}

void BlindedProduct::accept_input_gradient(Call& call, PendingReply& reply, const ProductKeys& keys, PlainTensor dx,
                                           const void* addend) {
  session_.accept_rows(reply, call.slices, [&](const Session::ArrivingReply& blinded) {
    Session::UnblindItem item{
        dx, {keys.left.get(), Form::kTranspose}, {keys.inner.get(), Form::kTranspose}, call.decoys.images()};
    item.addend = addend;
    unblind_and_check(blinded, call.cut.input, item, call.verifier ? call.verifier->of_input_gradient() : Probe(),
                      [&](const Probe& found) {
                        call.verifier->check_input_gradient(
                            found, largest_mixed(call.cut.input, {keys.left.get(), Form::kInverseTranspose}));
                      });
  });
}

bool BlindedProduct::accept_sum_of_workers(Call& call, const WeightGradient& gradient, const ProductKeys& keys,
                                           ConstPlainTensor x) {
  const TensorSpec spec{.type = call.type, .shape = weight_wire_shape()};
  std::optional<Buffer> sum;
  {
    const Stopwatch watch(session_.counters().wait_seconds);
    sum = session_.workers().sum_there(gradient, spec, "sum of weight_gradient of " + layer_);
  }
  if (!sum) return false;
  try {
    check_gradient(call, keys, *sum);
  } catch (const IntegrityError&) {
    return false;  // The sum does not show whose part was wrong: the parts are computed again and come here.
  }
  follow_gradient(call, x);
  resident_->gradient_summed(*sum, true);
  return true;
}

void BlindedProduct::accept_weight_gradient(Call& call, PendingReply& reply, const ProductKeys& keys,
                                            ConstPlainTensor x, PlainTensor dw) {
  Buffer sum;
  session_.accept(reply, [&](const Buffer& blinded) {
    sum = blinded;
    if (resident_) return check_gradient(call, keys, blinded);
    unblind_gradient(call, keys, blinded, dw);
  });
  if (!resident_) return;
  follow_gradient(call, x);
  resident_->gradient_summed(sum, false);
}

}  // namespace tempo::offload
