#include <torch/torch.h>

#include <cmath>
#include <memory>
#include <utility>

#include "nn/blinded_layer.h"
#include "nn/layers.h"
#include "nn/probe.h"
#include "nn/token_functions.h"

namespace tempo::nn {
namespace {

// a [batch, n, d] x b [batch, d, m], in the TEE unless a worker side is attached.
torch::Tensor product(const torch::nn::Module& module, const char* part, const std::shared_ptr<BlindedLayer>& blinded,
                      const torch::Tensor& a, const torch::Tensor& b) {
  torch::Tensor c = blinded ? offloaded_matmul(blinded, a, b) : torch::bmm(a, b);
  report_call(module, part, a, b, c);
  return c;
}

}  // namespace

AttentionImpl::AttentionImpl(int64_t width, int64_t heads) : heads_(heads) {
  qkv = register_module("qkv", Linear(width, 3 * width));
  proj = register_module("proj", Linear(width, width));
}

void AttentionImpl::attach_products(std::shared_ptr<BlindedLayer> scores, std::shared_ptr<BlindedLayer> values) {
  scores_ = std::move(scores);
  values_ = std::move(values);
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x, const torch::Tensor& residual) {
  const int64_t batch = x.size(0), tokens = x.size(1), width = x.size(2);
  const int64_t head_width = width / heads_;
  const auto [query, key, value] = split_heads(qkv->product(x), qkv->bias, heads_);
  const torch::Tensor scores = product(*this, "scores", scores_, query, key.transpose(1, 2));
  const torch::Tensor weights = softmax_(scores, 1.0 / std::sqrt(static_cast<double>(head_width)));
  const torch::Tensor mixed = product(*this, "values", values_, weights, value);
  const torch::Tensor joined = mixed.reshape({batch, heads_, tokens, head_width}).transpose(1, 2);
  return proj->forward(joined.reshape({batch, tokens, width}), residual);
}

}  // namespace tempo::nn
