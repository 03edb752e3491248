/// One block of a transformer's encoder, as in timm's vision transformers.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "nn/layers.h"

namespace tempo::nn {

/// fc2(gelu(fc1(x))), four times as wide inside.
class MlpImpl : public torch::nn::Module, public KeepsActivations {
 public:
  explicit MlpImpl(int64_t width);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& residual);

 private:
  Linear fc1_{nullptr}, fc2_{nullptr};
};
TORCH_MODULE(Mlp);

/// x + attn(norm1(x)), then the same with mlp and norm2, over [N, tokens, width].
class EncoderBlockImpl : public torch::nn::Module {
 public:
  EncoderBlockImpl(int64_t width, int64_t heads);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  LayerNorm norm1_{nullptr}, norm2_{nullptr};
  Attention attn_{nullptr};
  Mlp mlp_{nullptr};
};
TORCH_MODULE(EncoderBlock);

}  // namespace tempo::nn
