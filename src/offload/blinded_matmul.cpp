#include <fmt/format.h>

#include "integrity/matmul_check.h"
#include "offload/blinded_product.h"
#include "offload/stopwatch.h"

namespace tempo::offload {

using obfuscation::Form;
using obfuscation::Key;
using obfuscation::KeyRole;
using obfuscation::matrix_geometry;

namespace {

using KeyMember = std::shared_ptr<const Key> ProductKeys::*;

/// Lists the items of a batch: where each starts, and which of its keys act on it.
template <typename Item, typename Tensor>
std::vector<Item> items_of(Tensor tensor, int64_t elements, const std::vector<ProductKeys>& keys, KeyMember rows,
                           Form row_form, KeyMember channels, Form channel_form) {
  std::vector<Item> items;
  auto* bytes = static_cast<
      std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(tensor.data)>>, const std::byte*, std::byte*>>(
      tensor.data);
  for (const ProductKeys& item : keys) {
    items.push_back({{tensor.type, bytes}, {(item.*rows).get(), row_form}, {(item.*channels).get(), channel_form}});
    bytes += static_cast<size_t>(elements) * element_bytes(tensor.type);
  }
  return items;
}

}  // namespace

struct BlindedMatmul::Call {
  Shape shape;
  obfuscation::Pass pass;
  uint64_t call = 0;
  ElementType type = ElementType::kFloat32;
  ElementType wire = ElementType::kFloat32;
  double flops = 0;
  BatchKeys keys;
  Operand a, b;
  bool is_checked = false;
};

void BlindedMatmul::CallDeleter::operator()(Call* call) const noexcept { delete call; }

BlindedMatmul::BatchKeys BlindedMatmul::derive(const Call& call, uint64_t purpose, bool left, bool inner, bool right,
                                               const BatchKeys* otherwise) {
  BatchKeys keys;
  for (int64_t item = 0; item < call.shape.batch; ++item) {
    const obfuscation::KeyPath path{
        .layer = layer_, .pass = call.pass, .call = call.call, .item = static_cast<uint64_t>(item), .purpose = purpose};
    ProductKeys one = otherwise != nullptr ? otherwise->items[static_cast<size_t>(item)] : ProductKeys{};
    if (left) one.left = session_.derive(path, KeyRole::kLeft, call.shape.n);
    if (inner) one.inner = session_.derive(path, KeyRole::kInner, call.shape.d);
    if (right) one.right = session_.derive(path, KeyRole::kRight, call.shape.m);
    keys.items.push_back(std::move(one));
  }
  return keys;
}

BlindedMatmul::Blinding BlindedMatmul::blinding_of_a(const Call& call, ConstPlainTensor a, const BatchKeys& keys) {
  return [this, &call, &keys, a](OperandId id, const Session::Slices&) {
    const auto& [batch, n, d, m] = call.shape;
    return session_.blind(id,
                          items_of<Session::BlindItem>(a, n * d, keys.items, &ProductKeys::left, Form::kDirect,
                                                       &ProductKeys::inner, Form::kDirect),
                          matrix_geometry(n, d), call.wire, {batch, n, d});
  };
}

BlindedMatmul::Blinding BlindedMatmul::blinding_of_b(const Call& call, ConstPlainTensor b, const BatchKeys& keys) {
  return [this, &call, &keys, b](OperandId id, const Session::Slices&) {
    const auto& [batch, n, d, m] = call.shape;
    return session_.blind(id,
                          items_of<Session::BlindItem>(b, d * m, keys.items, &ProductKeys::inner,
                                                       Form::kInverseTranspose, &ProductKeys::right, Form::kDirect),
                          matrix_geometry(d, m), call.wire, {batch, d, m});
  };
}

BlindedMatmul::Blinding BlindedMatmul::blinding_of_dc(const Call& call, ConstPlainTensor dc, const BatchKeys& keys) {
  return [this, &call, &keys, dc](OperandId id, const Session::Slices&) {
    const auto& [batch, n, d, m] = call.shape;
    return session_.blind(
        id,
        items_of<Session::BlindItem>(dc, n * m, keys.items, &ProductKeys::left, Form::kInverseTranspose,
                                     &ProductKeys::right, Form::kInverseTranspose),
        matrix_geometry(n, m), call.wire, {batch, n, m});
  };
}

void BlindedMatmul::set_sources(const Call& call, ConstPlainTensor a, ConstPlainTensor b) {
  if (a.data == nullptr) {
    call.a.set_source();
    call.b.set_source();
    return;
  }
  call.a.set_source([make = blinding_of_a(call, a, call.keys), id = call.a.id()] { return make(id, {}); });
  call.b.set_source([make = blinding_of_b(call, b, call.keys), id = call.b.id()] { return make(id, {}); });
}

template <typename Check>
void BlindedMatmul::verify(const Call& call, const char* what, const Check& check) {
  const Stopwatch watch(session_.counters().verify_seconds);
  const integrity::MatmulShape shape{call.shape.batch, call.shape.n, call.shape.d, call.shape.m};
  const integrity::RoundingModel rounding = rounding_model(session_.options(), call.type, call.wire, 0, 0);
  Csprng secret = session_.verifier().stream(layer_);
  session_.verifier().conclude(
      with_element_type(call.type, [&](auto element) { return check(element, shape, rounding, secret); }),
      session_.workers().name(), fmt::format("{} of {}", what, layer_));
}

BlindedMatmul::UniqueCall BlindedMatmul::forward(const Shape& shape, ConstPlainTensor a, ConstPlainTensor b,
                                                 PlainTensor c) {
  UniqueCall call(new Call);
  call->shape = shape;
  call->pass = session_.pass();
  call->call = calls_.next(session_);
  call->type = a.type;
  call->wire = session_.wire_type(a.type);
  call->flops = 2.0 * static_cast<double>(shape.batch * shape.n) * static_cast<double>(shape.d * shape.m);
  call->keys = derive(*call, 0, true, true, true, nullptr);
  call->b = session_.send(Spread::kRows, blinding_of_b(*call, b, call->keys));
  call->a = session_.send(Spread::kRows, blinding_of_a(*call, a, call->keys), call->b);
  PendingReply reply =
      session_.submit(Forward{.product = product(), .x = call->a.id(), .w = call->b.id(), .reply_type = call->wire},
                      {.type = call->wire, .shape = {shape.batch, shape.n, shape.m}}, "forward of " + layer_);
  call->is_checked = session_.verifier().draw();
  session_.accept(reply, [&](const Buffer& blinded) {
    session_.unblind(blinded, matrix_geometry(shape.n, shape.m),
                     items_of<Session::UnblindItem>(c, shape.n * shape.m, call->keys.items, &ProductKeys::left,
                                                    Form::kInverse, &ProductKeys::right, Form::kInverse));
    if (!call->is_checked) return;
    verify(*call, "forward", [&](auto element, const auto& s, const auto& rounding, Csprng& secret) {
      using Pointer = decltype(element);
      return integrity::check_matmul(s, rounding, static_cast<Pointer>(a.data), static_cast<Pointer>(b.data),
                                     static_cast<Pointer>(c.data), secret, session_.threads());
    });
  });
  set_sources(*call, {}, {});  // the caller may change a and b from now on
  session_.count_product(call->flops);
  return call;
}

void BlindedMatmul::backward(Call& call, ConstPlainTensor a, ConstPlainTensor b, ConstPlainTensor dc, PlainTensor da,
                             PlainTensor db) {
  const auto& [batch, n, d, m] = call.shape;
  const Reuse reuse = session_.options().reuse;
  const bool fresh = reuse != Reuse::kFull;
  const bool renew_all = reuse == Reuse::kNone;
  const BatchKeys da_keys = fresh ? derive(call, 1, true, renew_all, renew_all, &call.keys) : call.keys;
  const BatchKeys db_keys = fresh ? derive(call, 2, renew_all, renew_all, true, &call.keys) : call.keys;

  set_sources(call, a, b);
  Operand b_again, a_again, dc_for_db;
  if (renew_all) b_again = session_.send(Spread::kRows, blinding_of_b(call, b, da_keys), call.b);
  const Operand dc_for_da = session_.send(Spread::kRows, blinding_of_dc(call, dc, da_keys), call.b);
  PendingReply da_reply = session_.submit(InputGradient{.product = product(),
                                                        .dy = dc_for_da.id(),
                                                        .w = renew_all ? b_again.id() : call.b.id(),
                                                        .x_shape = {batch, n, d},
                                                        .reply_type = call.wire},
                                          {.type = call.wire, .shape = {batch, n, d}}, "input_gradient of " + layer_);
  if (renew_all) a_again = session_.send(Spread::kRows, blinding_of_a(call, a, db_keys), call.b);
  if (fresh) dc_for_db = session_.send(Spread::kRows, blinding_of_dc(call, dc, db_keys), call.b);
  PendingReply db_reply = session_.submit(WeightGradient{.product = product(),
                                                         .x = renew_all ? a_again.id() : call.a.id(),
                                                         .dy = fresh ? dc_for_db.id() : dc_for_da.id(),
                                                         .w_shape = {batch, d, m},
                                                         .reply_type = call.wire},
                                          {.type = call.wire, .shape = {batch, d, m}}, "weight_gradient of " + layer_);
  session_.count_product(2 * call.flops);
  session_.accept(da_reply, [&](const Buffer& blinded) {
    session_.unblind(blinded, matrix_geometry(n, d),
                     items_of<Session::UnblindItem>(da, n * d, da_keys.items, &ProductKeys::left, Form::kTranspose,
                                                    &ProductKeys::inner, Form::kTranspose));
    if (!call.is_checked) return;
    verify(call, "input_gradient", [&](auto element, const auto& s, const auto& rounding, Csprng& secret) {
      using Pointer = decltype(element);
      return integrity::check_matmul_da(s, rounding, static_cast<Pointer>(b.data), static_cast<Pointer>(dc.data),
                                        static_cast<Pointer>(da.data), secret, session_.threads());
    });
  });
  session_.accept(db_reply, [&](const Buffer& blinded) {
    session_.unblind(blinded, matrix_geometry(d, m),
                     items_of<Session::UnblindItem>(db, d * m, db_keys.items, &ProductKeys::inner, Form::kInverse,
                                                    &ProductKeys::right, Form::kTranspose));
    if (!call.is_checked) return;
    verify(call, "weight_gradient", [&](auto element, const auto& s, const auto& rounding, Csprng& secret) {
      using Pointer = decltype(element);
      return integrity::check_matmul_db(s, rounding, static_cast<Pointer>(a.data), static_cast<Pointer>(dc.data),
                                        static_cast<Pointer>(db.data), secret, session_.threads());
    });
  });
}

}  // namespace tempo::offload
