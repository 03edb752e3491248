/// Passes that a batch norm leaves to the convolutions before and after it. They happen while an activation is blinded
/// or un-blinded, and need no memory of their own.
#pragma once

#include <torch/types.h>

#include <memory>
#include <vector>

#include "nn/batch_norm.h"
#include "obfuscation/taps.h"

namespace tempo::nn {

/// Sums over the result of a product that a batch norm needs, computed while the result is un-blinded.
struct ResultMoments {
  std::vector<float> shift;           ///< set by who wants moments: they are taken of (result - shift)
  std::vector<double> sums, squares;  ///< set once the product has run
};

/// activation(norm(x)) of a batch, which is never in memory as a whole: the product that reads it computes it while it
/// blinds.
class DeferredNorm {
 public:
  /// @param x a tensor for which is_rows_of_channels is true.
  DeferredNorm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
               NormStatistics statistics, bool relu);

  [[nodiscard]] const torch::Tensor& weight() const { return weight_; }
  [[nodiscard]] const torch::Tensor& bias() const { return bias_; }
  /// activation(norm(x)) as a map of the channels of x.
  [[nodiscard]] std::shared_ptr<const obfuscation::ChannelAffine> map() const;
  struct Gradients {
    torch::Tensor dx, dweight, dbias;
  };
  /// @param dy gradient of activation(norm(x)).
  [[nodiscard]] Gradients backward(const torch::Tensor& dy) const;

 private:
  torch::Tensor x_, weight_, bias_;
  NormStatistics statistics_;
  NormScaling scaling_;
  bool relu_;
};

/// Passes that a product does besides multiplying.
struct LayerTaps {
  std::shared_ptr<DeferredNorm> norm = nullptr;      ///< applied to the product's operand, unless nullptr
  std::shared_ptr<ResultMoments> moments = nullptr;  ///< computed of the product's result, unless nullptr
  /// If not nullptr, receives x for a skip connection. The gradient that comes back along it is added while the
  /// gradient of x is un-blinded; autograd would read and write both once more to sum them.
  torch::Tensor* skip = nullptr;
};

}  // namespace tempo::nn
