#include "nn/deferred_norm.h"

#include <utility>

namespace tempo::nn {

using torch::Tensor;

// x is detached: the graph holds it, and it must not lead back to the graph.
DeferredNorm::DeferredNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, NormStatistics statistics,
                           bool relu)
    : x_(x.detach()),
      weight_(weight),
      bias_(bias),
      statistics_(std::move(statistics)),
      scaling_(scaling_of(statistics_, weight, bias)),
      relu_(relu) {}

std::shared_ptr<const obfuscation::ChannelAffine> DeferredNorm::map() const {
  return std::make_shared<const obfuscation::ChannelAffine>(
      obfuscation::ChannelAffine{scaling_.scale, scaling_.offset, relu_});
}

DeferredNorm::Gradients DeferredNorm::backward(const Tensor& dy) const {
  const NormActivity active{{}, relu_ ? scaling_ : NormScaling()};
  const NormBackward pass{x_, active, dy, statistics_};
  const NormGradient gradient = gradient_of(pass, weight_);
  return {input_gradient(pass, gradient), gradient.dweight, gradient.dbias};
}

}  // namespace tempo::nn
