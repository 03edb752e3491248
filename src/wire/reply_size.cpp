#include "wire/reply_size.h"

#include <algorithm>
#include <limits>

namespace tempo::wire {

using contract::ProductKind;
using contract::TensorSpec;

namespace {

using Shape = std::vector<int64_t>;

/// Extent of an unpadded convolution's output.
int64_t outputs(int64_t extent, int64_t taps, int64_t stride, int64_t dilation) {
  const int64_t last = extent - dilation * (taps - 1) - 1;
  return last < 0 ? 0 : last / stride + 1;
}

Shape with_last(Shape shape, int64_t extent) {
  shape.back() = extent;
  return shape;
}

std::optional<Shape> forward_shape(const contract::Product& p, const Shape& x, const Shape& w) {
  switch (p.kind) {
    case ProductKind::kLinear:
      return with_last(x, w.front());
    case ProductKind::kMatmul:
      return with_last(x, w.back());
    case ProductKind::kConv2d:
      if (x.size() != 4 || w.size() != 4) return std::nullopt;
      return Shape{x[0], outputs(x[1], w[1], p.stride_h, p.dilation_h), outputs(x[2], w[2], p.stride_w, p.dilation_w),
                   w[0]};
  }
  return std::nullopt;
}

std::optional<Shape> input_gradient_shape(const contract::InputGradient& op, const Shape& dy, const TensorSpec& w) {
  switch (op.product.kind) {
    case ProductKind::kLinear:
      return with_last(dy, w.shape.front() == 0 ? 0 : w.elements() / w.shape.front());
    case ProductKind::kMatmul:
      return w.shape.size() == 3 ? std::optional(with_last(dy, w.shape[1])) : std::nullopt;
    case ProductKind::kConv2d:
      return op.x_shape;
  }
  return std::nullopt;
}

std::optional<Shape> weight_gradient_shape(const contract::WeightGradient& op, const Shape& x, const Shape& dy) {
  switch (op.product.kind) {
    case ProductKind::kLinear:
      // The claimed shape counts only if it has as many elements: the executor gives the product that shape.
      return saturated_bytes({.shape = op.w_shape}) == saturated_bytes({.shape = {dy.back(), x.back()}})
                 ? op.w_shape
                 : Shape{dy.back(), x.back()};
    case ProductKind::kMatmul:
      return Shape{x.front(), x.back(), dy.back()};
    case ProductKind::kConv2d:
      return op.w_shape;
  }
  return std::nullopt;
}

struct ResultSpec {
  const SpecOf& spec_of;

  /// The operand, if it has a shape that a product can have.
  [[nodiscard]] const TensorSpec* factor(contract::OperandId id) const {
    const TensorSpec* spec = spec_of(id);
    return spec == nullptr || spec->shape.empty() ? nullptr : spec;
  }
  [[nodiscard]] std::optional<TensorSpec> same_as(contract::OperandId id) const {
    const TensorSpec* stored = spec_of(id);
    return stored == nullptr ? std::nullopt : std::optional(*stored);
  }
  static std::optional<TensorSpec> of(contract::ElementType type, std::optional<Shape> shape) {
    if (!shape) return std::nullopt;
    return TensorSpec{.type = type, .shape = std::move(*shape)};
  }

  std::optional<TensorSpec> operator()(const contract::Forward& op) const {
    const TensorSpec *x = factor(op.x), *w = factor(op.w);
    if (x == nullptr || w == nullptr) return std::nullopt;
    return of(op.reply_type, forward_shape(op.product, x->shape, w->shape));
  }
  std::optional<TensorSpec> operator()(const contract::InputGradient& op) const {
    const TensorSpec *dy = factor(op.dy), *w = factor(op.w);
    if (dy == nullptr || w == nullptr) return std::nullopt;
    return of(op.reply_type, input_gradient_shape(op, dy->shape, *w));
  }
  std::optional<TensorSpec> operator()(const contract::WeightGradient& op) const {
    const TensorSpec *x = factor(op.x), *dy = factor(op.dy);
    if (x == nullptr || dy == nullptr) return std::nullopt;
    // What stays is as wide as its operands, and at least float32.
    const bool is_wide = x->type == contract::ElementType::kFloat64;
    const auto kept = is_wide ? contract::ElementType::kFloat64 : contract::ElementType::kFloat32;
    return of(op.keep_as == 0 ? op.reply_type : kept, weight_gradient_shape(op, x->shape, dy->shape));
  }
  std::optional<TensorSpec> operator()(const contract::Update&) const { return TensorSpec{.shape = {0}}; }
  std::optional<TensorSpec> operator()(const contract::Fetch& op) const { return same_as(op.operand); }
  std::optional<TensorSpec> operator()(const contract::JoinGroup&) const { return TensorSpec{.shape = {0}}; }
  std::optional<TensorSpec> operator()(const contract::AllReduce& op) const { return same_as(op.operand); }
};

}  // namespace

std::optional<TensorSpec> result_spec(const contract::Operation& operation, const SpecOf& spec_of) {
  return std::visit(ResultSpec{spec_of}, operation);
}

uint64_t saturated_bytes(const TensorSpec& spec) {
  uint64_t bytes = contract::element_bytes(spec.type);
  for (const int64_t extent : spec.shape) {
    if (extent <= 0) return 0;
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes))
      bytes = std::numeric_limits<uint64_t>::max() / 2;
  }
  return bytes;
}

uint64_t max_reply_bytes(const contract::Operation& operation, const SpecOf& spec_of) {
  const auto result = result_spec(operation, spec_of);
  if (!result) return 0;
  // What stays on the worker is answered with its norm.
  const auto* gradient = std::get_if<contract::WeightGradient>(&operation);
  const bool stays =
      std::holds_alternative<contract::AllReduce>(operation) || (gradient != nullptr && gradient->keep_as != 0);
  return stays ? sizeof(double) : saturated_bytes(*result);
}

}  // namespace tempo::wire
