// Models for examples and quick tests. LeNet-5: LeCun, Bottou, Bengio, Haffner: "Gradient-based learning applied to
// document recognition" (1998), with ReLU and max pooling.
#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>

#include "nn/layers.h"
#include "nn/models/factories.h"
#include "nn/models/initialise.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

// The common part of both models: three linear layers, with torch's names and initial values.
class SmallModel : public Model {
 public:
  explicit SmallModel(const ModelOptions& options) : options_(options) {}
  void initialise(Csprng& random) override {
    for (const auto& module : modules(/*include_self=*/false))
      if (auto* layer = module->as<ProductLayer>()) init_torch_default(*layer, random);
  }

 protected:
  void register_classifier(int64_t in, int64_t hidden1, int64_t hidden2) {
    fc1_ = register_module("fc1", Linear(in, hidden1));
    fc2_ = register_module("fc2", Linear(hidden1, hidden2));
    fc3_ = register_module("fc3", Linear(hidden2, options_.classes));
  }
  torch::Tensor classify(const torch::Tensor& x) {
    const torch::Tensor hidden = torch::relu(fc1_->forward(x.flatten(1)));
    return fc3_->forward(torch::relu(fc2_->forward(hidden)));
  }

  ModelOptions options_;

 private:
  Linear fc1_{nullptr}, fc2_{nullptr}, fc3_{nullptr};
};

class MultiLayerPerceptron : public SmallModel {
 public:
  explicit MultiLayerPerceptron(const ModelOptions& options) : SmallModel(options) {
    register_classifier(options.image_channels * options.image_side * options.image_side, 128, 128);
  }
  torch::Tensor forward(torch::Tensor x) override { return classify(model_input(x, options_)); }
};

constexpr int64_t kLeNetKernel = 5;
constexpr int64_t kLeNetSmallestSide = 12;

// The side of the map that the classifier reads, after padded convolution, pool, convolution and pool.
int64_t lenet_pooled_side(int64_t image_side) { return (image_side / 2 - (kLeNetKernel - 1)) / 2; }

class LeNet : public SmallModel {
 public:
  explicit LeNet(const ModelOptions& options) : SmallModel(options) {
    const ConvOptions first{.in = options.image_channels, .out = 6, .kernel = kLeNetKernel, .padding = 2, .bias = true};
    const ConvOptions second{.in = 6, .out = 16, .kernel = kLeNetKernel, .bias = true};
    conv1_ = register_module("conv1", Conv2d(first));
    conv2_ = register_module("conv2", Conv2d(second));
    const int64_t side = lenet_pooled_side(options.image_side);
    register_classifier(16 * side * side, 120, 84);
  }
  torch::Tensor forward(torch::Tensor x) override {
    x = torch::max_pool2d(torch::relu(conv1_->forward(model_input(x, options_))), /*kernel_size=*/2);
    x = torch::max_pool2d(torch::relu(conv2_->forward(x)), /*kernel_size=*/2);
    return classify(x);
  }

 private:
  Conv2d conv1_{nullptr}, conv2_{nullptr};
};

}  // namespace

std::shared_ptr<Model> make_mlp(const ModelOptions& options) { return std::make_shared<MultiLayerPerceptron>(options); }

std::shared_ptr<Model> make_lenet(const ModelOptions& options) {
  if (options.image_side < kLeNetSmallestSide)
    throw InputError(fmt::format("model: got an image side of {} for lenet, expected at least {}", options.image_side,
                                 kLeNetSmallestSide));
  return std::make_shared<LeNet>(options);
}

}  // namespace tempo::nn
