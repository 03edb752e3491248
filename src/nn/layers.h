/// The layers whose products can be offloaded, and those that always stay in the TEE. Parameters have the names and
/// shapes of torch.nn, so that state dictionaries can be exchanged with torchvision and timm.
///
/// Activations are [N, C, H, W] in channels-last memory. Every layer accepts any layout and returns channels-last.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/csprng.h"

namespace tempo::offload {
class BilinearProduct;
}

namespace tempo::nn {

/// The offloaded side of a layer.
using offload::BilinearProduct;
class DeferredNorm;  // src/nn/deferred_norm.h: passes that neighbouring layers do for one another
struct ResultMoments;
struct LayerTaps;

/// A layer that is one bilinear product of an activation and a weight. It is computed in the TEE until `attach` is
/// called.
class ProductLayer : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;
  /// Offloads the product from now on. nullptr brings it back into the TEE.
  void attach(std::shared_ptr<BilinearProduct> blinded) { blinded_ = std::move(blinded); }
  [[nodiscard]] const std::shared_ptr<BilinearProduct>& blinded() const { return blinded_; }

  torch::Tensor weight;
  torch::Tensor bias;  ///< undefined if the layer has no bias

 protected:
  std::shared_ptr<BilinearProduct> blinded_;
};

struct ConvOptions {
  int64_t in = 0, out = 0, kernel = 1;
  int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
  bool bias = false;
};

/// 2-D convolution, torch.nn.Conv2d: weight [out, in / groups, kernel, kernel]. Grouped convolutions are never
/// offloaded.
class Conv2dImpl : public ProductLayer {
 public:
  explicit Conv2dImpl(const ConvOptions& options);
  /// @throws InputError if x has other channels or is smaller than the kernel.
  torch::Tensor forward(const torch::Tensor& x);
  /// Also does passes for neighbouring layers. Moments are allowed only if `takes_moments()` is true, a norm only if
  /// `makes_operand()` is.
  torch::Tensor forward(const torch::Tensor& x, const LayerTaps& taps);
  /// Whether the moments of the result can be computed while it is un-blinded, now and in this configuration.
  [[nodiscard]] bool takes_moments() const;
  /// Whether the operand, too, can be computed from x while it is blinded.
  [[nodiscard]] bool makes_operand() const;
  [[nodiscard]] const ConvOptions& options() const { return options_; }

 private:
  ConvOptions options_;
};
TORCH_MODULE(Conv2d);

/// Affine map of the last dimension, torch.nn.Linear: weight [out, in].
class LinearImpl : public ProductLayer {
 public:
  LinearImpl(int64_t in, int64_t out, bool bias = true);
  /// x W^T + bias (+ residual). `residual` may be undefined.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& residual = {});
  /// x W^T, for callers that add the bias in a pass of their own.
  torch::Tensor product(const torch::Tensor& x);

 private:
  int64_t in_, out_;
};
TORCH_MODULE(Linear);

enum class Activation { kNone, kRelu };

/// A layer that keeps an activation, or something computed from one, for its backward pass.
class KeepsActivations {
 public:
  virtual ~KeepsActivations() = default;

  torch::ScalarType kept = torch::kFloat32;  ///< float32 or bfloat16; the forward result is float32 either way
};
/// Sets the type in which all layers of a model keep activations.
void keep_activations(torch::nn::Module& model, torch::ScalarType type);

/// torch.nn.BatchNorm2d with momentum 0.1. Has weight, bias, running_mean, running_var and num_batches_tracked.
class BatchNorm2dImpl : public torch::nn::Module, public KeepsActivations {
 public:
  explicit BatchNorm2dImpl(int64_t channels, double eps = 1e-5);
  /// activation(norm(x) + residual). `residual` may be undefined.
  /// @param moments moments of x, if they were computed already; nullptr: this layer computes them.
  /// @throws InputError in training if there is only one value per channel.
  torch::Tensor forward(const torch::Tensor& x, Activation activation = Activation::kNone,
                        const torch::Tensor& residual = {}, const std::shared_ptr<ResultMoments>& moments = nullptr);
  /// Whether `defer` may be called: in training, with float32 activations kept and x float32 in channels-last memory.
  [[nodiscard]] bool can_defer(const torch::Tensor& x) const;
  /// Like `forward`, but leaves activation(norm(x)) to the product that reads it.
  std::shared_ptr<DeferredNorm> defer(const torch::Tensor& x, Activation activation,
                                      const std::shared_ptr<ResultMoments>& moments);

  torch::Tensor weight, bias, running_mean, running_var, num_batches_tracked;

 private:
  void begin_batch(const torch::Tensor& x);

  double eps_;
};
TORCH_MODULE(BatchNorm2d);

/// The input of a fused block: an activation, or an x from which the block's convolution computes it.
struct BlockInput {
  BlockInput(torch::Tensor activation) : x(std::move(activation)) {}  // NOLINT: an activation is one
  BlockInput(torch::Tensor before, std::shared_ptr<DeferredNorm> deferred)
      : x(std::move(before)), norm(std::move(deferred)) {}

  torch::Tensor x;
  std::shared_ptr<DeferredNorm> norm;  ///< norm still to be applied to x, or nullptr
};

struct ConvNorm {
  Conv2d& conv;
  BatchNorm2d& norm;
};
/// The fused block activation(norm(conv(x)) + residual). `residual` may be undefined. It is one call so that passes
/// over the activation can be fused inside it. @param skip as in LayerTaps.
torch::Tensor conv_norm_act(const ConvNorm& block, const BlockInput& x, Activation activation,
                            const torch::Tensor& residual = {}, torch::Tensor* skip = nullptr);
/// Like `conv_norm_act`, for a block whose result only `next` reads. `next` may then compute the norm itself.
BlockInput conv_norm_act_for(Conv2d& next, const ConvNorm& block, const BlockInput& x, Activation activation,
                             torch::Tensor* skip = nullptr);

/// Multi-head self-attention of [N, tokens, width] with timm's names, qkv and proj. The two products of activations are
/// offloaded only if `attach_products` was called; short sequences cost more to blind than to compute.
class AttentionImpl : public torch::nn::Module {
 public:
  AttentionImpl(int64_t width, int64_t heads);
  /// Attention of x (+ residual). `residual` may be undefined.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& residual = {});
  void attach_products(std::shared_ptr<BilinearProduct> scores, std::shared_ptr<BilinearProduct> values);

  Linear qkv{nullptr}, proj{nullptr};

 private:
  torch::Tensor scores(const torch::Tensor& query, const torch::Tensor& key);
  torch::Tensor values(const torch::Tensor& weights, const torch::Tensor& value);

  int64_t heads_;
  std::shared_ptr<BilinearProduct> scores_, values_;  // nullptr if the product stays in the TEE
};
TORCH_MODULE(Attention);

/// torch.nn.LayerNorm over the last dimension.
class LayerNormImpl : public torch::nn::Module, public KeepsActivations {
 public:
  explicit LayerNormImpl(int64_t width, double eps = 1e-6);
  /// @param skip If not nullptr, receives x for a skip connection whose gradient is added by this layer
  /// (token_functions.h).
  torch::Tensor forward(const torch::Tensor& x, torch::Tensor* skip = nullptr);

  torch::Tensor weight, bias;

 private:
  double eps_;
};
TORCH_MODULE(LayerNorm);

/// Fills `tensor` with N(0, stddev^2) from a CSPRNG, in row-major order. LibTorch's own generator has a 32-bit state
/// space, so anyone could guess initial weights drawn from it.
void init_normal(torch::Tensor& tensor, double stddev, Csprng& random);
/// Like `init_normal`, truncated at two standard deviations as in timm.
void init_truncated_normal(torch::Tensor& tensor, double stddev, Csprng& random);
void init_uniform(torch::Tensor& tensor, double bound, Csprng& random);

}  // namespace tempo::nn
