/// Offloaded products as differentiable functions of LibTorch.
#pragma once

#include <torch/types.h>

#include <memory>

#include "nn/deferred_norm.h"
#include "offload/bilinear_product.h"

namespace tempo::nn {

using offload::BilinearProduct;

/// Convolves x [N, in, H, W] with weight [out, in, kh, kw] and adds bias [out], unless undefined. Returns [N, out, OH,
/// OW], channels-last. All are float32 or all float64. With resident weights no gradient of the weight is returned: it
/// stays on the worker.
/// @param taps passes of neighbouring layers that this product does; allowed only if the product takes them.
/// @throws InputError if the operands do not fit the layer; what the session throws.
torch::Tensor offloaded_conv2d(const std::shared_ptr<BilinearProduct>& layer, const torch::Tensor& x,
                               const torch::Tensor& weight, const torch::Tensor& bias, const LayerTaps& taps = {});
/// Returns x W^T + bias: x [..., in], weight [out, in], bias [out] or undefined, result [..., out].
torch::Tensor offloaded_linear(const std::shared_ptr<BilinearProduct>& layer, const torch::Tensor& x,
                               const torch::Tensor& weight, const torch::Tensor& bias);
/// Returns the product of a [batch, n, d] and b [batch, d, m], [batch, n, m].
torch::Tensor offloaded_matmul(const std::shared_ptr<BilinearProduct>& layer, const torch::Tensor& a,
                               const torch::Tensor& b);

/// Un-blinds a weight that workers hold into `weight` (and its velocity, if defined), in the parameter's own layout.
/// @returns false if the TEE has the current one.
bool fetch_resident(BilinearProduct& layer, torch::Tensor& weight, torch::Tensor velocity = {});

/// Sends a weight and its velocity to the worker, blinded under the keys of training step `step`.
void start_resident(BilinearProduct& layer, const torch::Tensor& weight, const torch::Tensor& velocity, uint64_t step);

}  // namespace tempo::nn
