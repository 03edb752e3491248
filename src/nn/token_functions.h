/// The operations of a transformer between its products, as differentiable functions in few passes. Float32 tensors use
/// the kernels of kernels/token_ops.h, all others LibTorch's operators. Tensors are [..., width].
#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>

namespace tempo::nn {

/// Adds bias and residual to y in place. Nothing else may need y. @param bias, residual may be undefined.
torch::Tensor add_bias_(torch::Tensor y, const torch::Tensor& bias, const torch::Tensor& residual = {});

/// Computes the exact gelu(x + bias) in place of x. Nothing else may need x. @param bias may be undefined.
/// @param kept type of what is kept for the backward pass: float32 or bfloat16.
torch::Tensor gelu_(torch::Tensor x, const torch::Tensor& bias, torch::ScalarType kept = torch::kFloat32);

struct NormWeights {
  const torch::Tensor& weight;
  const torch::Tensor& bias;
  double eps = 0;
};
/// Layer norm over the last dimension.
/// @param skip If not nullptr, receives x for a skip connection. The gradient that comes back along it is added in the
/// pass that computes the gradient of x.
/// @param kept as in gelu_.
torch::Tensor layer_norm(const torch::Tensor& x, const NormWeights& norm, torch::Tensor* skip = nullptr,
                         torch::ScalarType kept = torch::kFloat32);

/// Computes softmax(x * scale) over the last dimension in place of x. Nothing else may need x. @param scale above zero.
torch::Tensor softmax_(torch::Tensor x, double scale);

/// Adds bias to qkv [N, tokens, 3 * width] and splits it into query, key and value of every head, each [N * heads,
/// tokens, width / heads].
/// @param bias may be undefined.
std::array<torch::Tensor, 3> split_heads(const torch::Tensor& qkv, const torch::Tensor& bias, int64_t heads);

}  // namespace tempo::nn
