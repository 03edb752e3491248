/// What a batch norm and the convolutions before and behind it leave to one another: passes over an activation that
/// then happen while it is blinded or un-blinded, and need no memory of their own.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <vector>

#include "nn/batch_norm.h"
#include "obfuscation/blind.h"

namespace tempo::nn {

/// Sums over the result of a product that a batch norm wants, taken while it is un-blinded.
struct ResultMoments {
  std::vector<float> shift;           ///< wanted: moments of the result above these
  std::vector<double> sums, squares;  ///< once the product ran
};

/// activation(norm(x)) of a batch, which is never in memory: the product that reads it makes it while it blinds.
class DeferredNorm {
 public:
  /// @param x rows of channels, float32
  DeferredNorm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
               NormStatistics statistics, bool relu);

  [[nodiscard]] const torch::Tensor& weight() const { return weight_; }
  [[nodiscard]] const torch::Tensor& bias() const { return bias_; }
  /// Makes activation(norm(x)).
  [[nodiscard]] obfuscation::PixelMap map() const;
  struct Gradients {
    torch::Tensor dx, dweight, dbias;
  };
  /// @param dy gradient of the activation
  [[nodiscard]] Gradients backward(const torch::Tensor& dy) const;

 private:
  torch::Tensor x_, weight_, bias_;
  NormStatistics statistics_;
  NormScaling scaling_;
  bool relu_;
};

/// What a product may do beside multiplying.
struct OnTheWay {
  std::shared_ptr<DeferredNorm> norm;      ///< is applied to its operand; or null
  std::shared_ptr<ResultMoments> moments;  ///< are taken of its result; or null
};

}  // namespace tempo::nn
