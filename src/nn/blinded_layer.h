/// Offloaded products as differentiable functions of LibTorch.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>

#include "nn/on_the_way.h"
#include "offload/blinded_product.h"

namespace tempo::nn {

/// The offloaded side of one layer: a product with a weight, or (attention) of two activations.
class BlindedLayer {
 public:
  BlindedLayer(offload::Session& session, std::string name, const offload::ProductGeometry& geometry)
      : product_(std::make_unique<offload::BlindedProduct>(session, std::move(name), geometry)) {}
  BlindedLayer(offload::Session& session, std::string name)
      : matmul_(std::make_unique<offload::BlindedMatmul>(session, std::move(name))) {}

  /// nullptr for a product of two activations.
  [[nodiscard]] offload::BlindedProduct* product() { return product_.get(); }
  /// nullptr for a product with a weight.
  [[nodiscard]] offload::BlindedMatmul* matmul() { return matmul_.get(); }
  /// The weight that stays on the worker, or nullptr.
  [[nodiscard]] offload::ResidentWeight* resident() { return product_ ? product_->resident() : nullptr; }

 private:
  std::unique_ptr<offload::BlindedProduct> product_;
  std::unique_ptr<offload::BlindedMatmul> matmul_;
};

/// Convolves x [N, in, H, W] with weight [out, in, kh, kw] and adds bias [out], unless undefined. Returns [N, out, OH,
/// OW], channels-last. All are float32 or all float64. With resident weights no gradient of the weight is returned: it
/// stays on the worker.
/// @param skip If not nullptr, receives x for a skip connection. The gradient that comes back along it is added while
/// the gradient of x is un-blinded; autograd would read and write both once more to sum them.
/// @param way  passes of neighbouring layers that this product does; allowed only if the product works on the way.
/// @throws InputError if the operands do not fit the layer; what the session throws.
torch::Tensor offloaded_conv2d(const std::shared_ptr<BlindedLayer>& layer, const torch::Tensor& x,
                               const torch::Tensor& weight, const torch::Tensor& bias, torch::Tensor* skip = nullptr,
                               const OnTheWay& way = {});
/// Returns x W^T + bias: x [..., in], weight [out, in], bias [out] or undefined, result [..., out].
torch::Tensor offloaded_linear(const std::shared_ptr<BlindedLayer>& layer, const torch::Tensor& x,
                               const torch::Tensor& weight, const torch::Tensor& bias);
/// Returns the product of a [batch, n, d] and b [batch, d, m], [batch, n, m].
torch::Tensor offloaded_matmul(const std::shared_ptr<BlindedLayer>& layer, const torch::Tensor& a,
                               const torch::Tensor& b);

/// Un-blinds a resident weight into `weight` (and its velocity, if defined), in the parameter's own layout.
void fetch_resident(BlindedLayer& layer, torch::Tensor& weight, torch::Tensor velocity = {});

/// Sends a weight and its velocity to the worker, blinded under the keys of training step `step`.
void start_resident(BlindedLayer& layer, const torch::Tensor& weight, const torch::Tensor& velocity, uint64_t step);

}  // namespace tempo::nn
