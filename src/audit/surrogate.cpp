#include "audit/surrogate.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/functional/loss.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <cstring>

#include "train/checkpoint.h"
#include "train/data/batches.h"
#include "train/trainer.h"

namespace tempo::audit {

namespace F = torch::nn::functional;
using torch::Tensor;
using train::BatchTensors;
using train::Dataset;

namespace {

void fine_tune(nn::Model& model, const Dataset& images, const Tensor& labels, const SurrogateOptions& options) {
  torch::optim::SGD optimiser(model.parameters(),
                              torch::optim::SGDOptions(options.lr).momentum(0.9).weight_decay(5e-4));
  ThreadPool threads(1);
  const SecretKey root = key_from_seed_insecure(1);
  const int64_t batch_size = std::min(options.batch_size, images.size());
  const int64_t per_epoch = std::max<int64_t>(images.size() / batch_size, 1);  // short batches are left out
  model.train();
  for (int64_t step = 0; step < options.steps; ++step) {
    const train::Batches batches(images, root, static_cast<uint64_t>(step / per_epoch), batch_size, true);
    const int64_t index = step % per_epoch;
    const BatchTensors batch = train::make_batch(batches, index, images, threads);
    std::vector<int64_t> order;
    for (int64_t i = 0; i < batch.labels.numel(); ++i) order.push_back(batches.image_at(index * batch_size + i));
    const double rate = options.lr * 0.5 * (1 + std::cos(M_PI * static_cast<double>(step) / options.steps));
    static_cast<torch::optim::SGDOptions&>(optimiser.param_groups().front().options()).lr(rate);
    optimiser.zero_grad();
    F::cross_entropy(model.forward(batch.images), labels.index_select(0, torch::tensor(order))).backward();
    optimiser.step();
  }
}

/// A model as a classifier, in evaluation mode.
Classifier evaluated(std::shared_ptr<nn::Model> model) {
  model->eval();
  return [model = std::move(model)](const Tensor& images) { return model->forward(images); };
}

/// Iterated fast gradient sign (Kurakin et al., 2017) on the surrogate; share of the victim's right answers it turns.
double transfer_rate(const Classifier& surrogate, const Classifier& victim, const Dataset& test,
                     const SurrogateOptions& options) {
  constexpr int kIterations = 5;
  const BatchTensors batch = all_images(slice(test, 0, std::min(options.transfer_images, test.size())));
  const Tensor right = logits_of(victim, batch.images).argmax(1).eq(batch.labels);
  const Tensor images = batch.images.index({right}).contiguous(torch::MemoryFormat::ChannelsLast);
  const Tensor labels = batch.labels.index({right});
  if (labels.numel() == 0) return 0;
  Tensor range = torch::empty({1, test.channels, 1, 1});  // one unit of a pixel, in units of the model's input
  for (int64_t c = 0; c < test.channels; ++c) range[0][c][0][0] = 1.0 / test.stddev[static_cast<size_t>(c)];
  const Tensor limit = range * options.perturbation;
  Tensor moved = images.clone();
  for (int i = 0; i < kIterations; ++i) {
    moved = moved.detach().requires_grad_(true);
    const Tensor loss = F::cross_entropy(surrogate(moved), labels);
    const Tensor gradient = torch::autograd::grad({loss}, {moved})[0];
    const Tensor change = moved.detach() + gradient.sign() * (2 * limit / kIterations) - images;
    moved = images + torch::maximum(torch::minimum(change, limit), -limit);
  }
  const Tensor wrong = logits_of(victim, moved.detach()).argmax(1).ne(labels);
  return wrong.to(torch::kFloat64).mean().item<double>();
}

/// Area under the ROC curve of "a low loss means a member" (Yeom et al., 2018): P(member's loss < other's loss).
double membership_area(const Classifier& surrogate, const Dataset& members, const Dataset& others, int64_t count) {
  const auto losses = [&](const Dataset& images) {
    const BatchTensors batch = all_images(slice(images, 0, std::min(count, images.size())));
    return F::cross_entropy(logits_of(surrogate, batch.images), batch.labels,
                            F::CrossEntropyFuncOptions().reduction(torch::kNone));
  };
  const Tensor member = losses(members).unsqueeze(1), other = losses(others).unsqueeze(0);
  const Tensor wins = member.lt(other).to(torch::kFloat64) + 0.5 * member.eq(other).to(torch::kFloat64);
  return wins.mean().item<double>();
}

}  // namespace

std::vector<Budget> standard_budgets(const StealTarget& target, const Dataset& others) {
  std::vector<Budget> budgets;
  for (const int64_t queries : {50, 500})
    budgets.push_back({.name = std::to_string(queries) + " queries",
                       .images = slice(others, 0, std::min(queries, others.size())),
                       .labelled_by_victim = true});
  for (const int64_t percent : {1, 5, 10}) {
    const int64_t count = std::max<int64_t>(target.members.size() * percent / 100, 2);
    budgets.push_back({.name = std::to_string(percent) + "% of the training data",
                       .images = slice(target.members, target.members.size() - count, target.members.size())});
  }
  return budgets;
}

State surrogate_start(const nn::ModelOptions& options, const std::map<std::string, Operand>& recovered) {
  const torch::NoGradGuard no_grad;
  const auto model = nn::make_model(options);
  Csprng random(key_from_seed_insecure(2));
  model->initialise(random);
  State state = copy_state(*model);
  for (const auto& [layer, weight] : recovered) {
    Tensor& target = state.at(layer + ".weight");
    // Taps may have been recorded as one row; in memory they lie alike.
    std::vector<int64_t> shape = {target.size(0), target.numel() / target.size(0)};
    if (target.dim() == 4) shape = {target.size(0), target.size(2), target.size(3), target.size(1)};
    const Tensor values = torch::from_blob(const_cast<float*>(weight.values.data()), shape);
    // Scaled to the length that a fresh weight would have: what an attack recovers is known up to its scale.
    const Tensor plain = target.dim() == 4 ? values.permute({0, 3, 1, 2}) : values;
    const double norm = plain.norm().item<double>();
    if (norm > 0) target.copy_(plain * (target.norm().item<double>() / norm));
  }
  return state;
}

BatchTensors all_images(const Dataset& images) {
  ThreadPool threads(1);
  return train::make_batch(train::Batches(images, images.size()), 0, images, threads);
}

Tensor logits_of(const Classifier& classify, const Tensor& images) {
  const torch::NoGradGuard no_grad;
  constexpr int64_t kBatch = 250;
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < images.size(0); i += kBatch)
    parts.push_back(classify(images.slice(0, i, std::min(i + kBatch, images.size(0)))));
  return torch::cat(parts);
}

SurrogateResult judge(const StealTarget& target, const std::string& start_from, const std::string& budget,
                      const Classifier& surrogate, const SurrogateOptions& options) {
  const Classifier victim = evaluated(make_loaded_model(target.model, target.state));
  const BatchTensors test = all_images(target.test);
  const Tensor said = logits_of(surrogate, test.images).argmax(1);
  const Tensor victim_said = logits_of(victim, test.images).argmax(1);
  const auto share = [](const Tensor& flags) { return flags.to(torch::kFloat64).mean().item<double>(); };
  return {.start_from = start_from,
          .budget = budget,
          .accuracy = share(said.eq(test.labels)),
          .fidelity = share(said.eq(victim_said)),
          .transfer = transfer_rate(surrogate, victim, target.test, options),
          .membership = membership_area(surrogate, target.members, target.test, options.membership_images)};
}

Tensor budget_labels(const StealTarget& target, const Budget& budget, const BatchTensors& images) {
  if (!budget.labelled_by_victim) return images.labels;
  return logits_of(evaluated(make_loaded_model(target.model, target.state)), images.images).argmax(1);
}

SurrogateResult steal(const StealTarget& target, const std::string& start_from, const State& start,
                      const Budget& budget, const SurrogateOptions& options) {
  const auto surrogate = make_loaded_model(target.model, start);
  fine_tune(*surrogate, budget.images, budget_labels(target, budget, all_images(budget.images)), options);
  return judge(target, start_from, budget.name, evaluated(surrogate), options);
}

}  // namespace tempo::audit
