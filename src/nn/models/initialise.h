/// Initial values of layers, shared by the models. Every function draws the weight first and then the bias, the order
/// of `named_parameters()`, so that the values depend on the random stream alone.
#pragma once

#include <torch/types.h>

#include "base/csprng.h"
#include "nn/layers.h"

namespace tempo::nn {

/// torch's default for Linear and Conv2d: weight and bias uniform in +-1/sqrt(fan_in).
void init_torch_default(ProductLayer& layer, Csprng& random);
/// As in torchvision's convolutions: weight N(0, 2 / fan_out) with fan_out = out * kernel^2 (He et al., 2015), bias 0.
void init_kaiming_fan_out(ProductLayer& layer, Csprng& random);
/// Weight N(0, stddev^2), bias 0.
void init_normal_weight(ProductLayer& layer, double stddev, Csprng& random);
/// Weight N(0, stddev^2) truncated at two standard deviations, bias 0.
void init_truncated_weight(ProductLayer& layer, double stddev, Csprng& random);
/// Weight 1, bias 0, running mean 0 and variance 1.
void init_norm(BatchNorm2dImpl& norm);
/// Weight 1, bias 0.
void init_norm(LayerNormImpl& norm);

}  // namespace tempo::nn
