#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <cmath>
#include <memory>
#include <utility>

#include "nn/layers.h"
#include "nn/offloaded.h"
#include "nn/probe.h"
#include "nn/token_functions.h"

namespace tempo::nn {
namespace {

using torch::Tensor;

/// query x key^T. LibTorch would return the gradients transposed, and copy them.
struct ScoresFunction : torch::autograd::Function<ScoresFunction> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& query, const Tensor& key) {
    ctx->save_for_backward({query, key});
    return torch::bmm(query, key.transpose(1, 2));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    return {torch::bmm(gradients[0], saved[1]), torch::bmm(gradients[0].transpose(1, 2), saved[0])};
  }
};

}  // namespace

AttentionImpl::AttentionImpl(int64_t width, int64_t heads) : heads_(heads) {
  qkv = register_module("qkv", Linear(width, 3 * width));
  proj = register_module("proj", Linear(width, width));
}

void AttentionImpl::attach_products(std::shared_ptr<BilinearProduct> scores, std::shared_ptr<BilinearProduct> values) {
  scores_ = std::move(scores);
  values_ = std::move(values);
}

// Both products are computed in the TEE unless a blinded layer is attached.
Tensor AttentionImpl::scores(const Tensor& query, const Tensor& key) {
  const Tensor transposed = key.transpose(1, 2);
  Tensor c = scores_ ? offloaded_matmul(scores_, query, transposed) : ScoresFunction::apply(query, key);
  report_call(*this, "scores", query, transposed, c);
  return c;
}

Tensor AttentionImpl::values(const Tensor& weights, const Tensor& value) {
  Tensor c = values_ ? offloaded_matmul(values_, weights, value) : torch::bmm(weights, value);
  report_call(*this, "values", weights, value, c);
  return c;
}

Tensor AttentionImpl::forward(const Tensor& x, const Tensor& residual) {
  const int64_t batch = x.size(0), tokens = x.size(1), width = x.size(2);
  const int64_t head_width = width / heads_;
  const auto [query, key, value] = split_heads(qkv->product(x), qkv->bias, heads_);
  const Tensor weights = softmax_(scores(query, key), 1.0 / std::sqrt(static_cast<double>(head_width)));
  const Tensor mixed = values(weights, value);
  const Tensor joined = mixed.reshape({batch, heads_, tokens, head_width}).transpose(1, 2);
  return proj->forward(joined.reshape({batch, tokens, width}), residual);
}

}  // namespace tempo::nn
