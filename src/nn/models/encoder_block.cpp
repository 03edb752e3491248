#include "nn/models/encoder_block.h"

#include "nn/token_functions.h"

namespace tempo::nn {
namespace {

constexpr int64_t kMlpRatio = 4;

}  // namespace

MlpImpl::MlpImpl(int64_t width) {
  fc1_ = register_module("fc1", Linear(width, kMlpRatio * width));
  fc2_ = register_module("fc2", Linear(kMlpRatio * width, width));
}

torch::Tensor MlpImpl::forward(const torch::Tensor& x, const torch::Tensor& residual) {
  return fc2_->forward(gelu_(fc1_->product(x), fc1_->bias, kept), residual);
}

EncoderBlockImpl::EncoderBlockImpl(int64_t width, int64_t heads) {
  norm1_ = register_module("norm1", LayerNorm(width));
  attn_ = register_module("attn", Attention(width, heads));
  norm2_ = register_module("norm2", LayerNorm(width));
  mlp_ = register_module("mlp", Mlp(width));
}

torch::Tensor EncoderBlockImpl::forward(const torch::Tensor& x) {
  torch::Tensor skip;
  torch::Tensor y = norm1_->forward(x, &skip);
  const torch::Tensor attended = attn_->forward(y, skip);
  y = norm2_->forward(attended, &skip);
  return mlp_->forward(y, skip);
}

}  // namespace tempo::nn
