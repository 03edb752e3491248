#include <ATen/Dispatch.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

#include "nn/layers.h"

namespace tempo::nn {
namespace {

// Draws one value per element in logical (row-major) order, so that the memory format does not change the values.
template <typename Draw>
void fill_in_logical_order(torch::Tensor& tensor, const Draw& draw) {
  const torch::NoGradGuard no_grad;
  torch::Tensor values = tensor.is_cpu() && tensor.is_contiguous()
                             ? tensor.detach()
                             : torch::empty(tensor.sizes(), torch::dtype(tensor.scalar_type()));
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "init", [&] {
    auto* out = values.data_ptr<scalar_t>();
    for (int64_t i = 0, count = values.numel(); i < count; ++i) out[i] = static_cast<scalar_t>(draw());
  });
  if (!values.is_alias_of(tensor)) tensor.copy_(values);
}

}  // namespace

void init_normal(torch::Tensor& tensor, double stddev, Csprng& random) {
  fill_in_logical_order(tensor, [&] { return stddev * random.normal(); });
}

void init_truncated_normal(torch::Tensor& tensor, double stddev, Csprng& random) {
  fill_in_logical_order(tensor, [&] {
    double value = random.normal();
    while (std::abs(value) > 2.0) value = random.normal();
    return stddev * value;
  });
}

void init_uniform(torch::Tensor& tensor, double bound, Csprng& random) {
  fill_in_logical_order(tensor, [&] { return bound * (2.0 * random.uniform() - 1.0); });
}

}  // namespace tempo::nn
