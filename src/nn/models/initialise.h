/// Initial values by layer, shared by the models. Every function draws the weight first, then the bias: in the order of
/// `named_parameters()`, so that the values are a function of the random stream alone.
#pragma once

#include <torch/torch.h>

#include "base/csprng.h"
#include "nn/layers.h"

namespace tempo::nn {

/// torch's default of Linear and Conv2d: weight and bias uniform in +-1/sqrt(fan_in).
void init_torch_default(ProductLayer& layer, Csprng& random);
/// torchvision's convolutions: N(0, 2 / fan_out) with fan_out = out * kernel^2 (He et al., 2015), bias 0.
void init_kaiming_fan_out(ProductLayer& layer, Csprng& random);
/// N(0, stddev^2), bias 0.
void init_normal_weight(ProductLayer& layer, double stddev, Csprng& random);
/// The same, truncated at two standard deviations.
void init_truncated_weight(ProductLayer& layer, double stddev, Csprng& random);
/// Weight 1, bias 0, statistics of a network that has seen no batch.
void init_norm(BatchNorm2dImpl& norm);
/// Weight 1, bias 0.
void init_norm(LayerNormImpl& norm);

}  // namespace tempo::nn
