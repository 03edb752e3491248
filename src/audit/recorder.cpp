#include "audit/recorder.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "audit/dense_key.h"
#include "audit/plain_tiles.h"
#include "base/thread_pool.h"
#include "obfuscation/blind.h"
#include "tempo/error.h"

namespace tempo::audit {

using contract::Buffer;
using contract::OperandId;
using obfuscation::ElementType;
using obfuscation::Form;
using obfuscation::Key;
using obfuscation::KeyUse;
using obfuscation::TileGeometry;

namespace {

/// [rows, channels], [rows, h, w, channels] or, for a product of single positions, [rows, taps * channels].
Operand to_operand(const Buffer& operand) {
  const Buffer buffer = contract::row_major(operand);
  const auto& shape = buffer.spec().shape;
  if (shape.size() != 2 && shape.size() != 4)
    throw RunError("audit: an operand of " + contract::to_string(buffer.spec()) + " cannot be recorded");
  Operand out = shape.size() == 4 ? Operand(shape[0], shape[1], shape[2], shape[3]) : Operand(shape[0], 1, 1, shape[1]);
  if (buffer.spec().type == ElementType::kFloat32) {
    std::memcpy(out.values.data(), buffer.data(), buffer.bytes());
  } else if (buffer.spec().type == ElementType::kBFloat16) {
    for (size_t i = 0; i < out.values.size(); ++i) {
      uint16_t half = 0;
      std::memcpy(&half, buffer.data() + 2 * i, sizeof half);
      const uint32_t bits = static_cast<uint32_t>(half) << 16;
      std::memcpy(&out.values[i], &bits, sizeof bits);
    }
  } else {
    throw RunError("audit: float64 operands are not recorded");
  }
  return out;
}

/// Rows that lie one after the other, as wire operands do.
TileGeometry wire_geometry(const TileGeometry& g) {
  TileGeometry rows = obfuscation::weight_geometry(g.rows(), g.tile_h, g.tile_w, g.channels);
  rows.mixes_positions = g.mixes_positions;
  return rows;
}

/// A result with its keys undone, tile by tile: before tiles that overlap are summed.
Operand tiles_unblinded(const Buffer& reply, obfuscation::Blinding how) {
  Operand out = shaped_like(how.geometry);
  ThreadPool threads(1);
  how.geometry = wire_geometry(how.geometry);
  how.decoy_images = 0;
  obfuscation::unblind(how, reply.data(), {ElementType::kFloat32, out.values.data()}, threads);
  return out;
}

/// What an operand is blinded of, cut into tiles, with its decoys.
Operand plain_of(const offload::BlindedOperand& operand, const Buffer& decoys) {
  if (operand.x.type != ElementType::kFloat32) throw RunError("audit: float64 operands are not recorded");
  const auto* x = static_cast<const float*>(operand.x.data);
  std::vector<float> made;
  if (operand.map) {
    const auto& [scale, offset, relu] = *operand.map;
    made.assign(x, x + operand.tensor.plain_elements());
    for (size_t i = 0; i < made.size(); ++i) {
      made[i] = std::fma(made[i], scale[i % scale.size()], offset[i % scale.size()]);
      if (relu) made[i] = std::max(made[i], 0.0F);
    }
    x = made.data();
  }
  return plain_tiles(x, operand.tensor.side.geometry,
                     {operand.tensor.decoy_images, reinterpret_cast<const float*>(decoys.data())});
}

/// A result in the shape of its tiles, where the wire has flattened them.
Operand shaped(Operand flat, const TileGeometry& geometry) {
  Operand out = shaped_like(geometry);
  out.values = std::move(flat.values);
  return out;
}

double energy_of(const Operand& operand) {
  double sum = 0;
  for (const float v : operand.values) sum += static_cast<double>(v) * v;
  return sum;
}

/// What nobody wants to recover must not count as truth.
void clear_decoys(Operand& plain, const TileGeometry& geometry, int64_t decoys) {
  const auto real = static_cast<size_t>((geometry.images - decoys) * geometry.tiles_y * geometry.tiles_x *
                                        plain.positions() * plain.channels);
  std::fill(plain.values.begin() + static_cast<std::ptrdiff_t>(real), plain.values.end(), 0.0F);
}

Operand first_rows(Operand all, int64_t values) {
  const int64_t row = all.positions() * all.channels;
  const int64_t kept = std::clamp<int64_t>(values / std::max<int64_t>(row, 1), 1, all.rows);
  all.rows = kept;
  all.values.resize(static_cast<size_t>(kept * row));
  all.values.shrink_to_fit();
  return all;
}

/// A^T A of an operand's rows.
Matrix products_of_rows(const Operand& rows) {
  constexpr Eigen::Index kBlock = 4096;
  using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Index features = rows.positions() * rows.channels;
  Matrix sum = Matrix::Zero(features, features);
  FloatMatrix product(features, features);
  for (Eigen::Index start = 0; start < rows.rows; start += kBlock) {
    const int64_t count = std::min(kBlock, rows.rows - start);
    auto* values = const_cast<float*>(rows.values.data()) + start * features;  // LibTorch only reads it
    const torch::Tensor block = torch::from_blob(values, {count, features});
    torch::Tensor out = torch::from_blob(product.data(), {features, features});
    torch::mm_out(out, block.t(), block);
    sum += product.cast<double>();
  }
  return sum;
}

}  // namespace

void Recorder::attach(offload::Session& session, std::shared_ptr<contract::Worker> worker) {
  session_ = &session;
  worker_ = std::move(worker);
  session.exchange().observe_plain_insecure(this);
}

bool Recorder::recording() const {
  return session_ != nullptr && session_->pass().period == obfuscation::Period::kStep &&
         session_->pass().number < static_cast<uint64_t>(options_.steps);
}
bool Recorder::recording_fully() const {
  return recording() && session_->pass().number < static_cast<uint64_t>(options_.full_steps);
}

Event& Recorder::log(std::string what) {
  events_.emplace_back();
  Event& event = events_.back();
  event.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  event.step = static_cast<int64_t>(session_->pass().number);
  event.what = std::move(what);
  return event;
}

void Recorder::begin_step_if_new() {
  const auto step = static_cast<int64_t>(session_->pass().number);
  if (step_ == step) return;
  step_ = step;
  forward_calls_ = input_gradients_ = weight_gradients_ = 0;
}

void Recorder::on_put(OperandId id, const Buffer& operand) {
  if (!recording()) return;
  Event& event = log("put");
  event.operands = {id};
  event.spec = operand.spec();
  stored_[id] = operand;
}

void Recorder::on_free(const std::vector<OperandId>& ids) {
  for (const OperandId id : ids) {
    stored_.erase(id);
    sent_.erase(id);
    layer_of_operand_.erase(id);
  }
  if (recording()) log("free").operands = ids;
}

void Recorder::on_operation(uint64_t number, const contract::Operation& operation) {
  if (!recording()) return;
  begin_step_if_new();
  Event& event = log(contract::operation_name(operation));
  event.operation = number;
  if (const auto* forward = std::get_if<contract::Forward>(&operation)) {
    event.operands = {forward->x, forward->w};
    on_forward(number, *forward);
  } else if (const auto* dx = std::get_if<contract::InputGradient>(&operation)) {
    event.operands = {dx->dy, dx->w};
    on_input_gradient(number, *dx);
  } else if (const auto* dw = std::get_if<contract::WeightGradient>(&operation)) {
    event.operands = {dw->x, dw->dy};
    on_weight_gradient(number, *dw);
  } else if (const auto* sum = std::get_if<contract::AllReduce>(&operation)) {
    event.operands = {sum->operand};
  }
}

Operand Recorder::copy_of(OperandId id) const {
  const auto found = stored_.find(id);
  return found == stored_.end() ? Operand() : to_operand(found->second);
}

Operand Recorder::fetch(OperandId id) {
  // Operations are carried out in order: this is the operand as the next operation will find it.
  return to_operand(worker_->submit(contract::Fetch{id}).get());
}

void Recorder::on_forward(uint64_t number, const contract::Forward& op) {
  if (op.product.kind == contract::ProductKind::kMatmul) return;
  const size_t index = forward_calls_++;
  if (layers_.size() <= index) layers_.resize(index + 1);
  Layer& layer = layers_[index];
  layer_of_operand_[op.x] = layer_of_operand_[op.w] = index;
  const auto x = sent_.find(op.x), w = sent_.find(op.w);
  if (x == sent_.end()) return;
  layer.input_geometry = x->second.geometry;
  layer.decoys = x->second.decoys;

  layer.recorded.view.emplace_back();
  layer.recorded.truth.emplace_back();
  StepView& seen = view(index);
  StepTruth& plain = truth(index);
  seen.step = *step_;
  seen.x = shaped(copy_of(op.x), layer.input_geometry);
  seen.w = fetch(op.w);
  plain.inner = x->second.inner;
  plain.rows_mixed = x->second.rows_mixed;
  // A resident weight that was sent at an earlier step has changed since: see received().
  if (w != sent_.end() && w->second.step == *step_) plain.w = w->second.plain;
  add_products(layer.recorded);
  if (recording_fully())
    plain.x = std::move(x->second.plain);
  else
    seen.x = first_rows(std::move(seen.x), options_.later_values);
  pending_[number] = {Role::kY, index};
}

void Recorder::add_products(LayerCase& layer) const {
  constexpr Eigen::Index kMostFeatures = 600;
  const Operand& x = layer.view.back().x;
  const Eigen::Index features = x.positions() * x.channels;
  if (features == 0 || features > kMostFeatures) return;
  size_t first = layer.view.size() - 1;
  while (first > 0 && layer.truth[first - 1].inner == layer.truth.back().inner) --first;
  StepView& pooled = layer.view[first];
  const Matrix products = products_of_rows(x);
  pooled.x_products = pooled.x_products.size() == 0 ? products : Matrix(pooled.x_products + products);
  pooled.x_product_rows += x.rows;
}

size_t Recorder::layer_of(OperandId operand, size_t& backward_calls) {
  // Under reuse=none the operand is new, and the worker goes by the order: backward is forward reversed.
  const size_t by_order = layers_.size() - 1 - std::min(backward_calls++, layers_.size() - 1);
  const auto found = layer_of_operand_.find(operand);
  return found == layer_of_operand_.end() ? by_order : found->second;
}

void Recorder::on_input_gradient(uint64_t number, const contract::InputGradient& op) {
  if (op.product.kind == contract::ProductKind::kMatmul || layers_.empty()) return;
  const bool is_known = layer_of_operand_.contains(op.w);
  const size_t index = layer_of(op.w, input_gradients_);
  if (!recording()) return;
  StepView& seen = view(index);
  pending_[number] = {Role::kDx, index};
  if (!is_known) seen.w_again = copy_of(op.w);
  Operand dy = copy_of(op.dy);
  if (!dy.empty()) seen.dy_products = products_of_rows(from_channels(dy.by_channel(), dy.rows * dy.positions(), 1, 1));
  if (!recording_fully()) return;
  seen.dy = std::move(dy);
  if (const auto sent = sent_.find(op.dy); sent != sent_.end()) {
    seen.dy = shaped(std::move(seen.dy), sent->second.geometry);
    truth(index).dy = sent->second.plain;
  }
  layers_[index].dy = op.dy;
}

void Recorder::on_weight_gradient(uint64_t number, const contract::WeightGradient& op) {
  if (op.product.kind == contract::ProductKind::kMatmul || layers_.empty()) return;
  const bool is_known = layer_of_operand_.contains(op.x);
  const size_t index = layer_of(op.x, weight_gradients_);
  if (!recording()) return;
  StepView& seen = view(index);
  pending_[number] = {Role::kDw, index};
  if (!recording_fully()) return;
  const auto dy = sent_.find(op.dy);
  if (op.dy != layers_[index].dy && dy != sent_.end()) seen.dy_for_dw = shaped(copy_of(op.dy), dy->second.geometry);
  if (!is_known) seen.x_again = shaped(copy_of(op.x), layers_[index].input_geometry);
}

void Recorder::on_reply(uint64_t number, const contract::Operation& operation, const Buffer& reply) {
  if (!recording()) return;
  Event& event = log("reply");
  event.operation = number;
  event.spec = reply.spec();
  const auto found = pending_.find(number);
  if (found == pending_.end()) return;
  const PendingReply pending = found->second;
  pending_.erase(found);
  const auto* dw = std::get_if<contract::WeightGradient>(&operation);
  if (dw != nullptr && dw->keep_as != 0) {
    StepView& seen = view(pending.layer);
    const StepTruth& plain = truth(pending.layer);
    seen.dw = fetch(dw->keep_as);
    if (recording_fully()) truth(pending.layer).dw = transform(plain.right, seen.dw, plain.inner.transpose());
    return;
  }
  replies_[reply.data()] = pending;
}

void Recorder::sent(OperandId id, const offload::BlindedOperand& operand, const Buffer& decoys) {
  const offload::KeyedTensor& tensor = operand.tensor;
  if (!recording() || tensor.keys.size() != 1) return;
  Sent& sent = sent_[id];
  sent.step = static_cast<int64_t>(session_->pass().number);
  sent.geometry = tensor.side.geometry;
  sent.decoys = tensor.decoy_images;
  // X brings M, in its direct form. Weights are small: their plain values are kept at every step.
  const offload::ProductKeys& keys = tensor.keys.front();
  if (tensor.role == offload::Role::kX) {
    sent.inner = dense_key(*keys.inner, Form::kDirect);
    sent.rows_mixed = effective_rows_mixed(*keys.left);
  }
  if (tensor.role != offload::Role::kW && !recording_fully()) return;
  sent.plain = plain_of(operand, decoys);
  const double noise_and_all = energy_of(sent.plain);
  clear_decoys(sent.plain, sent.geometry, sent.decoys);
  // A fourth moment is diluted by noise as by rows that are mixed in.
  const double real = energy_of(sent.plain);
  if (real > 0) sent.rows_mixed *= (noise_and_all / real) * (noise_and_all / real);
}

void Recorder::received(const Buffer& reply, const offload::BlindedResult& result) {
  const auto found = replies_.find(reply.data());
  if (found == replies_.end() || result.tensor.keys.size() != 1) return;
  const auto [role, index] = found->second;
  replies_.erase(found);
  const obfuscation::Blinding how = result.tensor.blinding(0);
  const TileGeometry& geometry = how.geometry;
  StepView& seen = view(index);
  StepTruth& plain = truth(index);
  if (role == Role::kY) {
    plain.right = dense_key(*how.channels.key, Form::kDirect);
    if (plain.w.empty()) plain.w = transform(plain.right, seen.w, plain.inner.transpose());
  }
  if (role == Role::kDx) plain.inner_again = dense_key(*how.channels.key, Form::kDirect);
  if (role == Role::kDw) plain.right_again = dense_key(*how.rows.key, Form::kDirect);
  if (!recording_fully()) {
    if (role == Role::kDw) seen.dw = shaped(to_operand(reply), geometry);
    return;
  }
  Operand blinded = shaped(to_operand(reply), geometry);
  Operand unblinded = tiles_unblinded(reply, how);
  if (role != Role::kDw) clear_decoys(unblinded, geometry, layers_[index].decoys);
  switch (role) {
    case Role::kY:
      seen.y = std::move(blinded);
      plain.y = std::move(unblinded);
      break;
    case Role::kDx:
      seen.dx = std::move(blinded);
      plain.dx = std::move(unblinded);
      break;
    case Role::kDw:
      seen.dw = std::move(blinded);
      plain.dw = std::move(unblinded);
      break;
  }
}

std::vector<LayerCase> Recorder::take_cases(const std::vector<std::string>& names) {
  std::vector<LayerCase> cases;
  for (size_t i = 0; i < layers_.size(); ++i) {
    LayerCase one = std::move(layers_[i].recorded);
    one.layer = i < names.size() ? names[i] : "layer " + std::to_string(i);
    // Not the operation's: a product of single positions has none.
    const int64_t outputs = one.view.empty() ? 0 : one.view.front().y.height;
    one.stride = outputs > 0 ? layers_[i].input_geometry.step_y / outputs : 1;
    one.tiles_y = layers_[i].input_geometry.tiles_y;
    one.tiles_x = layers_[i].input_geometry.tiles_x;
    cases.push_back(std::move(one));
  }
  layers_.clear();
  return cases;
}

}  // namespace tempo::audit
