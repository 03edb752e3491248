// Two layers trained on random operands over any pool of workers, so that results can be compared.
#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "offload/bilinear_product.h"

namespace tempo::testing {

inline double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double apart = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    apart += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(apart / norm);
}

/// The same operands every time; other keys every time.
class SmallTraining {
 public:
  static constexpr uint64_t kSeed = 20;

  /// @param scale of the batch
  SmallTraining(std::unique_ptr<offload::WorkerPool> pool, const BlindingOptions& options, int64_t scale = 1)
      : session_(options, SecretKey::random(), std::move(pool), 1,
                 {.policy = integrity::Policy::kAlways, .probability = 1}) {
    add({.images = 6 * scale, .height = 7, .width = 5},
        {.in = 9, .out = 11, .kernel_h = 3, .kernel_w = 3, .stride = 1, .padding = 1});
    add({.images = 40 * scale}, {.in = 17, .out = 12});
  }

  [[nodiscard]] offload::Session& session() { return session_; }
  [[nodiscard]] offload::WorkerPool& workers() { return session_.workers(); }

  void step() {
    if (session_.workers().begin_step())
      for (auto& layer : layers_) layer.product->parameter()->replicate();
    session_.begin_pass({obfuscation::Period::kStep, steps_++, 0});
    for (auto& layer : layers_) run(layer);
    for (auto& layer : layers_)
      layer.product->parameter()->step({.step = steps_, .learning_rate = kRate, .momentum = 0, .weight_decay = 0});
  }
  void steps(int count) {
    for (int i = 0; i < count; ++i) step();
  }

  /// The weights of both layers, and the last results.
  std::vector<float> state() {
    std::vector<float> all;
    for (auto& layer : layers_) {
      layer.product->parameter()->fetch(plain(layer.w), {});
      for (const auto* part : {&layer.w, &layer.y, &layer.dx}) all.insert(all.end(), part->begin(), part->end());
    }
    return all;
  }

 private:
  static constexpr double kRate = 0.01;
  struct Layer {
    offload::ImageShape shape;
    std::unique_ptr<offload::BilinearProduct> product;
    std::vector<float> w, y, dx;
    int64_t inputs = 0, outputs = 0;
  };

  void add(const offload::ImageShape& shape, const offload::ProductGeometry& g) {
    Layer& layer = layers_.emplace_back();
    layer.shape = shape;
    layer.product = std::make_unique<offload::BilinearProduct>(session_, "layer" + std::to_string(layers_.size()), g);
    layer.inputs = shape.images * shape.height * shape.width * g.in;
    layer.outputs = shape.images * shape.height * shape.width * g.out;
    layer.w = draw(g.out * g.kernel_h * g.kernel_w * g.in);
    layer.y.resize(static_cast<size_t>(layer.outputs));
    layer.dx.resize(static_cast<size_t>(layer.inputs));
  }

  void run(Layer& layer) {
    const std::vector<float> x = draw(layer.inputs), dy = draw(layer.outputs);
    std::vector<float> dw(layer.w.size());
    const bool is_resident = layer.product->parameter()->keeps_gradient();
    auto call = layer.product->forward(layer.shape, {plain(x), plain(layer.w)}, {plain(layer.y)});
    layer.product->backward(*call, plain(dy),
                            {plain(layer.dx), is_resident ? obfuscation::PlainTensor{} : plain(dw), true});
    if (!is_resident)
      for (size_t i = 0; i < dw.size(); ++i) layer.w[i] -= static_cast<float>(kRate) * dw[i];
  }

  static obfuscation::PlainTensor plain(std::vector<float>& values) {
    return {contract::ElementType::kFloat32, values.data()};
  }
  static obfuscation::ConstPlainTensor plain(const std::vector<float>& values) {
    return {contract::ElementType::kFloat32, values.data()};
  }
  std::vector<float> draw(int64_t count) {
    std::normal_distribution<float> normal(0, 0.3F);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random_);
    return values;
  }

  std::mt19937_64 random_{kSeed};
  offload::Session session_;
  std::vector<Layer> layers_;
  uint64_t steps_ = 0;
};

}  // namespace tempo::testing
