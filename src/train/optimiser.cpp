#include "train/optimiser.h"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/kernels/update.h"

namespace tempo::train {
namespace {

using torch::Tensor;

/// Whether the kernels can do it: float32, and all four run through memory in one order. The rest is left to LibTorch.
bool is_one_run(const Tensor& weight, std::initializer_list<Tensor> others) {
  if (weight.scalar_type() != torch::kFloat32 || !weight.is_non_overlapping_and_dense()) return false;
  return std::all_of(others.begin(), others.end(), [&](const Tensor& other) {
    return other.scalar_type() == torch::kFloat32 && other.sizes() == weight.sizes() &&
           other.strides() == weight.strides();
  });
}

/// Calls `body(first, count)` for pieces of all elements, on LibTorch's threads.
template <typename Body>
void for_elements(const Tensor& tensor, const Body& body) {
  constexpr int64_t kPiece = 1 << 15;
  at::parallel_for(0, tensor.numel(), kPiece, [&](int64_t begin, int64_t end) { body(begin, end - begin); });
}

class Sgd final : public TeeOptimiser {
 public:
  Sgd(std::vector<NamedParameter> parameters, double momentum, double weight_decay)
      : parameters_(std::move(parameters)), momentum_(momentum), weight_decay_(weight_decay) {
    for (const auto& p : parameters_) velocity_.push_back(torch::zeros_like(p.tensor));
  }

  void step(double learning_rate, double gradient_scale) override {
    const torch::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      auto& parameter = parameters_[i].tensor;
      if (!parameter.grad().defined()) continue;
      if (is_one_run(parameter, {parameter.grad(), velocity_[i]})) {
        const kernels::SgdStep step{.learning_rate = static_cast<float>(learning_rate),
                                    .momentum = static_cast<float>(momentum_),
                                    .weight_decay = parameters_[i].decays() ? static_cast<float>(weight_decay_) : 0,
                                    .gradient_scale = static_cast<float>(gradient_scale)};
        const float* const gradient = parameter.grad().data_ptr<float>();
        float *const weight = parameter.data_ptr<float>(), *const velocity = velocity_[i].data_ptr<float>();
        for_elements(parameter, [&](int64_t first, int64_t count) {
          kernels::best_update_kernels().sgd(step, gradient + first, count, weight + first, velocity + first);
        });
        continue;
      }
      velocity_[i].mul_(momentum_).add_(parameter.grad(), gradient_scale);
      if (parameters_[i].decays()) velocity_[i].add_(parameter, weight_decay_);
      parameter.sub_(velocity_[i], learning_rate);
    }
    ++steps_;
  }

  NamedState state() override {
    NamedState named;
    for (size_t i = 0; i < parameters_.size(); ++i) named.emplace_back("velocity." + parameters_[i].name, velocity_[i]);
    return named;
  }
  [[nodiscard]] int64_t steps() const override { return steps_; }
  void set_steps(int64_t steps) override { steps_ = steps; }

 private:
  std::vector<NamedParameter> parameters_;
  std::vector<torch::Tensor> velocity_;
  double momentum_, weight_decay_;
  int64_t steps_ = 0;
};

class AdamW final : public TeeOptimiser {
 public:
  AdamW(std::vector<NamedParameter> parameters, double weight_decay)
      : parameters_(std::move(parameters)), weight_decay_(weight_decay) {
    for (const auto& p : parameters_) {
      mean_.push_back(torch::zeros_like(p.tensor));
      square_.push_back(torch::zeros_like(p.tensor));
    }
  }

  void step(double learning_rate, double gradient_scale) override {
    const torch::NoGradGuard no_grad;
    ++steps_;
    const double correction1 = 1 - std::pow(kBeta1, static_cast<double>(steps_));
    const double correction2 = 1 - std::pow(kBeta2, static_cast<double>(steps_));
    for (size_t i = 0; i < parameters_.size(); ++i) {
      auto& parameter = parameters_[i].tensor;
      const auto& gradient = parameter.grad();
      if (!gradient.defined()) continue;
      if (is_one_run(parameter, {gradient, mean_[i], square_[i]})) {
        const kernels::AdamWStep step{
            .keep = parameters_[i].decays() ? static_cast<float>(1 - learning_rate * weight_decay_) : 1,
            .beta1 = static_cast<float>(kBeta1),
            .rest1 = static_cast<float>(1 - kBeta1),
            .beta2 = static_cast<float>(kBeta2),
            .rest2 = static_cast<float>(1 - kBeta2),
            .gradient_scale = static_cast<float>(gradient_scale),
            .rate = static_cast<float>(learning_rate / correction1),
            .root = static_cast<float>(1 / std::sqrt(correction2)),
            .epsilon = static_cast<float>(kEpsilon)};
        const float* const from = gradient.data_ptr<float>();
        float *const weight = parameter.data_ptr<float>(), *const mean = mean_[i].data_ptr<float>(),
                     *const square = square_[i].data_ptr<float>();
        for_elements(parameter, [&](int64_t first, int64_t count) {
          kernels::best_update_kernels().adamw(step, from + first, count, weight + first, mean + first, square + first);
        });
        continue;
      }
      if (parameters_[i].decays()) parameter.mul_(1 - learning_rate * weight_decay_);
      mean_[i].mul_(kBeta1).add_(gradient, (1 - kBeta1) * gradient_scale);
      square_[i].mul_(kBeta2).addcmul_(gradient, gradient, (1 - kBeta2) * gradient_scale * gradient_scale);
      const auto denominator = (square_[i].sqrt() / std::sqrt(correction2)).add_(kEpsilon);
      parameter.addcdiv_(mean_[i], denominator, -learning_rate / correction1);
    }
  }

  NamedState state() override {
    NamedState named;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      named.emplace_back("mean." + parameters_[i].name, mean_[i]);
      named.emplace_back("square." + parameters_[i].name, square_[i]);
    }
    return named;
  }
  [[nodiscard]] int64_t steps() const override { return steps_; }
  void set_steps(int64_t steps) override { steps_ = steps; }

 private:
  static constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
  std::vector<NamedParameter> parameters_;
  std::vector<torch::Tensor> mean_, square_;
  double weight_decay_;
  int64_t steps_ = 0;
};

}  // namespace

std::unique_ptr<TeeOptimiser> make_optimiser(const RunConfig& config, std::vector<NamedParameter> parameters) {
  if (config.optimizer == Optimizer::kAdamW) return std::make_unique<AdamW>(std::move(parameters), config.weight_decay);
  return std::make_unique<Sgd>(std::move(parameters), config.momentum, config.weight_decay);
}

double learning_rate(const RunConfig& config, int64_t step, int64_t total_steps) {
  if (step < config.warmup_steps)
    return config.lr * static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  if (config.schedule == Schedule::kConstant) return config.lr;
  const auto after = static_cast<double>(step - config.warmup_steps);
  const auto span = static_cast<double>(std::max<int64_t>(1, total_steps - config.warmup_steps));
  return config.lr * 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, after / span)));
}

}  // namespace tempo::train
