/// What a transformer does between its products, as differentiable functions in few passes. float32 tensors take the
/// kernels of kernels/token_ops.h, others LibTorch's operators. Tensors are [..., width].
#pragma once

#include <torch/torch.h>

#include <array>
#include <cstdint>

namespace tempo::nn {

/// y + bias (+ residual) in the place of y, which nothing else may need. @param bias, residual may be undefined
torch::Tensor add_bias_(torch::Tensor y, const torch::Tensor& bias, const torch::Tensor& residual = {});

/// gelu(x + bias), exact, in the place of x, which nothing else may need. @param bias may be undefined
/// @param kept type of what waits for the backward pass: float32, or bfloat16
torch::Tensor gelu_(torch::Tensor x, const torch::Tensor& bias, torch::ScalarType kept = torch::kFloat32);

/// @param skip nullptr, or receives x for a skip connection: what comes back along it is added in the pass that makes
/// the gradient of x. @param kept as of gelu_
torch::Tensor layer_norm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps,
                         torch::Tensor* skip = nullptr, torch::ScalarType kept = torch::kFloat32);

/// softmax(x * scale) over the last dimension in the place of x, which nothing else may need. @param scale above zero
torch::Tensor softmax_(torch::Tensor x, double scale);

/// Query, key and value of every head, [N * heads, tokens, width / heads] each, of qkv + bias [N, tokens, 3 * width].
/// @param bias may be undefined
std::array<torch::Tensor, 3> split_heads(const torch::Tensor& qkv, const torch::Tensor& bias, int64_t heads);

}  // namespace tempo::nn
