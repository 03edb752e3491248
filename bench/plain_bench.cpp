// What LibTorch makes of a model with nothing hidden and no TEE: the other end of the scale. One JSON line a step, as
// metrics.jsonl of a run has it.
#include <fmt/format.h>
#include <torch/cuda.h>
#include <torch/optim.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>

#include "base/csprng.h"
#include "benches.h"
#include "common/program.h"
#include "nn/model.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"

namespace tempo::bench {
namespace {

struct PlainOptions {
  std::string model = "resnet50", device = "cpu";
  int batch = 32, steps = 6, threads = 1;
};

PlainOptions parse(int argc, char** argv) {
  PlainOptions options;
  CLI::App app("train on one device with nothing hidden", "tempo-bench plain");
  app.add_option("--model", options.model, "model");
  app.add_option("--device", options.device, "cpu or cuda:N");
  app.add_option("--batch-size", options.batch, "images a step")->check(apps::Number::whole(1, 1 << 30));
  app.add_option("--steps", options.steps, "steps")->check(apps::Number::whole(1, 1 << 30));
  app.add_option("--threads", options.threads, "of the CPU")->check(apps::Number::whole(1, 1 << 30));
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    std::exit(app.exit(help));
  } catch (const CLI::ParseError& error) {
    throw InputError(fmt::format("plain: {}", error.what()));
  }
  return options;
}

std::unique_ptr<torch::optim::Optimizer> optimiser_of(const std::string& model, std::vector<torch::Tensor> parameters) {
  if (model.rfind("vit", 0) == 0)
    return std::make_unique<torch::optim::AdamW>(std::move(parameters), torch::optim::AdamWOptions(1e-3));
  return std::make_unique<torch::optim::SGD>(std::move(parameters), torch::optim::SGDOptions(1e-3).momentum(0.9));
}

}  // namespace

int run_plain(int argc, char** argv) {
  const PlainOptions options = parse(argc, argv);
  at::set_num_threads(options.threads);
  const torch::Device device(options.device);
  const auto model = nn::make_model({.name = options.model});
  Csprng random(SecretKey::random());
  model->initialise(random);
  model->to(device);
  model->train();
  const auto optimiser = optimiser_of(options.model, model->parameters());
  const torch::Tensor images = torch::randn({options.batch, 3, 32, 32}).contiguous(torch::MemoryFormat::ChannelsLast);
  const torch::Tensor labels = torch::randint(10, {options.batch}, torch::kInt64);
  for (int step = 1; step <= options.steps; ++step) {
    const auto start = std::chrono::steady_clock::now();
    optimiser->zero_grad();
    const auto loss = torch::cross_entropy_loss(model->forward(images.to(device)), labels.to(device));
    loss.backward();
    optimiser->step();
    const double value = loss.item<double>();  // waits for the device, but for the update
    if (device.is_cuda()) torch::cuda::synchronize();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (!std::isfinite(value)) throw RunError(fmt::format("plain: loss {} at step {}, expected a number", value, step));
    observe::print("{{\"step\": {}, \"loss\": {}, \"seconds\": {}}}\n", step, value, taken.count());
  }
  return 0;
}

}  // namespace tempo::bench
