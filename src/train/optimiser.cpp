#include "train/optimiser.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tempo::train {
namespace {

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
