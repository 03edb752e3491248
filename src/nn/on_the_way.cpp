#include "nn/on_the_way.h"

#include <utility>

#include "nn/kernels/norm_act.h"

namespace tempo::nn {

using torch::Tensor;

// x is detached: the map and the graph hold it, and it must not lead back to the graph.
DeferredNorm::DeferredNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, NormStatistics statistics,
                           bool relu)
    : x_(x.detach()),
      weight_(weight),
      bias_(bias),
      statistics_(std::move(statistics)),
      scaling_(scaling_of(statistics_, weight, bias)),
      relu_(relu) {}

obfuscation::PixelMap DeferredNorm::map() const {
  return [x = x_, scaling = scaling_, relu = relu_](int64_t pixel, void* channels) {
    const auto count = static_cast<int64_t>(scaling.scale.size());
    kernels::best_norm_act_kernels().apply(x.data_ptr<float>() + pixel * count, nullptr, 1, count, scaling.scale.data(),
                                           scaling.offset.data(), relu, static_cast<float*>(channels), nullptr);
  };
}

DeferredNorm::Gradients DeferredNorm::backward(const Tensor& dy) const {
  const NormActivity active{{}, relu_ ? scaling_ : NormScaling()};
  const NormGradient gradient = gradient_of(x_, active, dy, statistics_, weight_);
  return {input_gradient(x_, active, dy, statistics_, gradient), gradient.dweight, gradient.dbias};
}

}  // namespace tempo::nn
