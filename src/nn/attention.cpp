#include <torch/torch.h>

#include <cmath>
#include <memory>
#include <utility>

#include "nn/blinded_layer.h"
#include "nn/layers.h"
#include "nn/probe.h"

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

torch::Tensor AttentionImpl::forward(const torch::Tensor& x) {
  const int64_t batch = x.size(0), tokens = x.size(1), width = x.size(2);
  const int64_t head_width = width / heads_;
  // [N, tokens, 3 * width] -> three of [N * heads, tokens, head_width].
  const torch::Tensor split = qkv->forward(x).reshape({batch, tokens, 3, heads_, head_width}).permute({2, 0, 3, 1, 4});
  const auto part = [&](int64_t index) { return split[index].reshape({batch * heads_, tokens, head_width}); };

  const torch::Tensor query = part(0) * (1.0 / std::sqrt(static_cast<double>(head_width)));
  const torch::Tensor scores = product(*this, "scores", scores_, query, part(1).transpose(1, 2));
  const torch::Tensor mixed = product(*this, "values", values_, torch::softmax(scores, -1), part(2));
  const torch::Tensor joined = mixed.reshape({batch, heads_, tokens, head_width}).transpose(1, 2);
  return proj->forward(joined.reshape({batch, tokens, width}));
}

}  // namespace tempo::nn
