#include "nn/token_functions.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <vector>

#include "nn/kept.h"
#include "nn/kernels/token_ops.h"
#include "nn/row_pieces.h"

namespace tempo::nn {
namespace {

using kernels::best_token_kernels;
using kernels::kTokenRows;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

/// Whether the kernels can process all of these tensors. Undefined tensors are ignored.
bool is_fusible(std::initializer_list<Tensor> tensors) {
  for (const Tensor& t : tensors)
    if (t.defined() && (!t.device().is_cpu() || t.scalar_type() != torch::kFloat32 || !t.is_contiguous() ||
                        t.numel() == 0 || t.dim() == 0))
      return false;
  return true;
}

int64_t rows_of(const Tensor& x) { return x.numel() / x.size(-1); }
const float* data_of(const Tensor& x, int64_t offset = 0) {
  return x.defined() ? x.data_ptr<float>() + offset : nullptr;
}
c10::optional<Tensor> optional(const Tensor& x) { return x.defined() ? c10::optional<Tensor>(x) : c10::nullopt; }

Tensor to_tensor(const std::vector<double>& sums) {
  Tensor out = torch::empty({static_cast<int64_t>(sums.size())});
  for (size_t c = 0; c < sums.size(); ++c) out.data_ptr<float>()[c] = static_cast<float>(sums[c]);
  return out;
}

struct AddBiasFunction : torch::autograd::Function<AddBiasFunction> {
  static Tensor forward(AutogradContext* ctx, Tensor y, const c10::optional<Tensor>& bias,
                        const c10::optional<Tensor>& residual) {
    ctx->mark_dirty({y});
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["residual"] = residual.has_value();
    const Tensor b = bias.value_or(Tensor()), r = residual.value_or(Tensor());
    const int64_t width = y.size(-1);
    for_rows(rows_of(y), kTokenRows, [&](int64_t first, int64_t count) {
      float* const at = y.data_ptr<float>() + first * width;
      best_token_kernels().add({at, count, width}, data_of(b), data_of(r, first * width), at);
    });
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const Tensor dy = gradients[0].contiguous();
    Tensor dbias;
    if (ctx->saved_data["bias"].toBool()) {
      const int64_t width = dy.size(-1);
      dbias = to_tensor(sum_rows<1>(rows_of(dy), kTokenRows, width, [&](int64_t first, int64_t count, const auto& sum) {
        best_token_kernels().column_sums(data_of(dy, first * width), count, width, sum[0]);
      })[0]);
    }
    return {dy, dbias, ctx->saved_data["residual"].toBool() ? dy : Tensor()};
  }
};

struct GeluFunction : torch::autograd::Function<GeluFunction> {
  /// Keeps the derivative instead of x, because its parts are at hand here.
  static Tensor forward(AutogradContext* ctx, Tensor x, const c10::optional<Tensor>& bias, bool with_gradient,
                        torch::ScalarType kept) {
    ctx->mark_dirty({x});
    const Tensor b = bias.value_or(Tensor());
    Tensor slope = with_gradient ? torch::empty_like(x, x.options().dtype(kept).requires_grad(false)) : Tensor();
    const int64_t width = x.size(-1);
    for_rows(rows_of(x), kTokenRows, [&](int64_t first, int64_t count) {
      const int64_t at = first * width;
      float* const y = x.data_ptr<float>() + at;
      const KeptPiece piece(slope, at, count * width);
      best_token_kernels().gelu({y, count, width}, data_of(b), y, piece.data());
    });
    ctx->save_for_backward({slope});
    ctx->saved_data["bias"] = b.defined();
    return x;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const Tensor slope = ctx->get_saved_variables()[0], dy = gradients[0].contiguous();
    Tensor dx = torch::empty_like(dy);
    const int64_t width = slope.size(-1);
    const auto sums = sum_rows<1>(rows_of(dy), kTokenRows, width, [&](int64_t first, int64_t count, const auto& sum) {
      const int64_t at = first * width;
      best_token_kernels().gelu_gradient({data_of(dy, at), count, width}, kept_rows(slope, at, count * width),
                                         dx.data_ptr<float>() + at, sum[0]);
    });
    return {dx, ctx->saved_data["bias"].toBool() ? to_tensor(sums[0]) : Tensor(), Variable(), Variable()};
  }
};

/// Layer norm: Ba, Kiros and Hinton, arXiv:1607.06450 (2016). The second result is x itself.
struct LayerNormFunction : torch::autograd::Function<LayerNormFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias,
                               double eps, torch::ScalarType kept) {
    const int64_t width = x.size(-1), rows = rows_of(x);
    const Keeping keeping(x, kept);
    Tensor y = torch::empty_like(x), mean = torch::empty({rows}), inverse = torch::empty({rows});
    for_rows(rows, kTokenRows, [&](int64_t first, int64_t count) {
      const int64_t at = first * width;
      best_token_kernels().layer_norm(
          {data_of(x, at), count, width}, {data_of(weight), data_of(bias), static_cast<float>(eps)},
          y.data_ptr<float>() + at, mean.data_ptr<float>() + first, inverse.data_ptr<float>() + first);
      keeping.keep(data_of(x, at), at, count * width);
    });
    ctx->save_for_backward({keeping.tensor(), weight, mean, inverse});
    ctx->set_materialize_grads(false);
    return {y, x};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &inverse = saved[3];
    if (!gradients[0].defined()) return {gradients[1], Tensor(), Tensor(), Variable(), Variable()};  // nothing read y
    const Tensor dy = gradients[0].contiguous(), addend = gradients[1].defined() ? gradients[1].contiguous() : Tensor();
    Tensor dx = torch::empty_like(dy);
    const int64_t width = x.size(-1);
    const auto sums = sum_rows<2>(rows_of(x), kTokenRows, width, [&](int64_t first, int64_t count, const auto& sum) {
      const int64_t at = first * width;
      best_token_kernels().layer_norm_gradient(
          {data_of(dy, at), count, width},
          {kept_rows(x, at, count * width), data_of(weight), data_of(mean, first), data_of(inverse, first)},
          data_of(addend, at), {dx.data_ptr<float>() + at, sum[0], sum[1]});
    });
    return {dx, to_tensor(sums[0]), to_tensor(sums[1]), Variable(), Variable()};
  }
};

struct SoftmaxFunction : torch::autograd::Function<SoftmaxFunction> {
  static Tensor forward(AutogradContext* ctx, Tensor x, double scale) {
    ctx->mark_dirty({x});
    const int64_t width = x.size(-1);
    for_rows(rows_of(x), kTokenRows, [&](int64_t first, int64_t count) {
      float* const at = x.data_ptr<float>() + first * width;
      best_token_kernels().softmax(at, static_cast<float>(scale), count, width, at);
    });
    ctx->save_for_backward({x});
    ctx->saved_data["scale"] = scale;
    return x;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const Tensor y = ctx->get_saved_variables()[0], dy = gradients[0].contiguous();
    const auto scale = static_cast<float>(ctx->saved_data["scale"].toDouble());
    Tensor dx = torch::empty_like(y);
    const int64_t width = y.size(-1);
    for_rows(rows_of(y), kTokenRows, [&](int64_t first, int64_t count) {
      const int64_t at = first * width;
      best_token_kernels().softmax_gradient({data_of(dy, at), count, width}, data_of(y, at), scale,
                                            dx.data_ptr<float>() + at);
    });
    return {dx, Variable()};
  }
};

/// Where the features of one head of one token lie, in [N, tokens, 3, heads, features] and in the tensor of its part.
struct HeadLayout {
  int64_t tokens, heads, features;
  [[nodiscard]] int64_t row_width() const { return 3 * heads * features; }
  /// Calls `body(part, offset within 3 * width, offset in the part's tensor)` for all heads of a token.
  template <typename Body>
  void for_heads(int64_t image, int64_t token, const Body& body) const {
    for (int64_t part = 0; part < 3; ++part)
      for (int64_t head = 0; head < heads; ++head)
        body(static_cast<size_t>(part), (part * heads + head) * features,
             ((image * heads + head) * tokens + token) * features);
  }
};

struct SplitHeadsFunction : torch::autograd::Function<SplitHeadsFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& qkv, const c10::optional<Tensor>& bias,
                               int64_t heads) {
    const HeadLayout layout{qkv.size(1), heads, qkv.size(2) / 3 / heads};
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["bias"] = bias.has_value();
    const Tensor b = bias.value_or(Tensor());
    variable_list parts(3);
    for (Tensor& part : parts)
      part = torch::empty({qkv.size(0) * heads, layout.tokens, layout.features}, qkv.options().requires_grad(false));
    for_rows(qkv.size(0), 1, [&](int64_t image, int64_t) {
      for (int64_t token = 0; token < layout.tokens; ++token) {
        const float* const row = data_of(qkv, (image * layout.tokens + token) * layout.row_width());
        layout.for_heads(image, token, [&](size_t part, int64_t column, int64_t at) {
          best_token_kernels().add({row + column, 1, layout.features}, data_of(b, column), nullptr,
                                   parts[part].data_ptr<float>() + at);
        });
      }
    });
    return parts;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const std::array<Tensor, 3> parts = {gradients[0].contiguous(), gradients[1].contiguous(),
                                         gradients[2].contiguous()};
    const HeadLayout layout{parts[0].size(1), heads, parts[0].size(2)};
    const int64_t images = parts[0].size(0) / heads, width = layout.row_width();
    Tensor dqkv = torch::empty({images, layout.tokens, width}, parts[0].options());
    const auto sums =
        sum_rows<1>(images * layout.tokens, kTokenRows, width, [&](int64_t first, int64_t count, const auto& sum) {
          for (int64_t row = first; row < first + count; ++row) {
            float* const to = dqkv.data_ptr<float>() + row * width;
            layout.for_heads(row / layout.tokens, row % layout.tokens, [&](size_t part, int64_t column, int64_t at) {
              std::copy_n(data_of(parts[part], at), layout.features, to + column);
            });
          }
          best_token_kernels().column_sums(data_of(dqkv, first * width), count, width, sum[0]);
        });
    return {dqkv, ctx->saved_data["bias"].toBool() ? to_tensor(sums[0]) : Tensor(), Variable()};
  }
};

}  // namespace

Tensor add_bias_(Tensor y, const Tensor& bias, const Tensor& residual) {
  if (!bias.defined() && !residual.defined()) return y;
  if (is_fusible({y, bias, residual}) && (!residual.defined() || residual.sizes() == y.sizes()))
    return AddBiasFunction::apply(y, optional(bias), optional(residual));
  if (bias.defined()) y.add_(bias);
  return residual.defined() ? y.add_(residual) : y;
}

Tensor gelu_(Tensor x, const Tensor& bias, torch::ScalarType kept) {
  if (is_fusible({x, bias})) return GeluFunction::apply(x, optional(bias), torch::GradMode::is_enabled(), kept);
  return torch::gelu(bias.defined() ? x + bias : x);
}

Tensor layer_norm(const Tensor& x, const NormWeights& norm, Tensor* skip, torch::ScalarType kept) {
  const auto& [weight, bias, eps] = norm;
  if (is_fusible({x, weight, bias})) {
    const variable_list results = LayerNormFunction::apply(x, weight, bias, eps, kept);
    if (skip != nullptr) *skip = results[1];
    return results[0];
  }
  if (skip != nullptr) *skip = x;
  return torch::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

Tensor softmax_(Tensor x, double scale) {
  return is_fusible({x}) ? SoftmaxFunction::apply(x, scale) : torch::softmax(x * scale, -1);
}

std::array<Tensor, 3> split_heads(const Tensor& qkv, const Tensor& bias, int64_t heads) {
  if (is_fusible({qkv, bias})) {
    const variable_list parts = SplitHeadsFunction::apply(qkv, optional(bias), heads);
    return {parts[0], parts[1], parts[2]};
  }
  const int64_t images = qkv.size(0), tokens = qkv.size(1), features = qkv.size(2) / 3 / heads;
  const Tensor split =
      (bias.defined() ? qkv + bias : qkv).reshape({images, tokens, 3, heads, features}).permute({2, 0, 3, 1, 4});
  const auto part = [&](int64_t index) { return split[index].reshape({images * heads, tokens, features}); };
  return {part(0), part(1), part(2)};
}

}  // namespace tempo::nn
