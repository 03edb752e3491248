#include "audit/victim.h"

#include <cstring>

#include "audit/plain_tiles.h"
#include "audit/step_blinder.h"
#include "base/csprng.h"
#include "base/temporary_folder.h"
#include "nn/probe.h"
#include "obfuscation/protection.h"
#include "tempo/error.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/data/batches.h"
#include "train/trainer.h"

namespace tempo::audit {

using torch::Tensor;

namespace {

RunConfig run_config(const VictimOptions& options, const std::filesystem::path& out) {
  RunConfig config;
  config.model = options.model;
  config.out = out.string();
  config.batch_size = options.batch_size;
  config.steps = options.steps;
  config.lr = options.lr;
  config.warmup_steps = options.warmup_steps;
  config.tee_threads = options.tee_threads;
  config.workers = "local";
  return config;
}

RunConfig recording_config(const VictimOptions& options, const std::filesystem::path& out, const Setting& setting,
                           int64_t steps, bool local) {
  RunConfig config = run_config(options, out);
  config.steps = steps;
  config.lr = options.recording_lr;
  config.warmup_steps = 0;
  config.schedule = Schedule::kConstant;
  config.workers = local ? "local" : "inprocess:cpu";
  config.offload = setting.offload;
  config.integrity = setting.integrity;
  config.blinding = setting.blinding;
  config.weights = setting.blinding.weights;
  config.reuse = setting.blinding.reuse;
  config.decoys = setting.blinding.decoys;
  config.allow_unprotected = true;
  train::resolve(config);
  return config;
}

/// As many test images as it takes to make the trainer's last evaluation short.
train::DataSplits with_few_tests(const train::DataSplits& data) {
  return {data.train, slice(data.test, 0, std::min<int64_t>(data.test.size(), 64))};
}

Tensor as_nhwc(const Tensor& tensor) {
  const Tensor plain = tensor.detach().to(torch::kFloat32);
  return (plain.dim() == 4 ? plain.permute({0, 2, 3, 1}) : plain).contiguous();
}

Operand matrix_operand(const Tensor& matrix) {
  const Tensor dense = matrix.detach().to(torch::kFloat32).contiguous();
  Operand out(dense.size(0), 1, 1, dense.size(1));
  std::memcpy(out.values.data(), dense.data_ptr<float>(), out.values.size() * sizeof(float));
  return out;
}

/// The batch that a recorded run trains on first.
train::BatchTensors first_batch(const VictimOptions& options, const train::DataSplits& data, const SecretKey& root) {
  ThreadPool threads(1);
  const train::Batches batches(data.train, root, 0, options.batch_size, true);
  return train::make_batch(batches, 0, data.train, threads);
}

/// What a model was given, in grey levels of 0 to 255: normalisation undone.
Operand grey_levels(const Tensor& input, const train::Dataset& data) {
  const Tensor pixels = as_nhwc(input);
  Operand out(pixels.size(0), pixels.size(1), pixels.size(2), pixels.size(3));
  std::memcpy(out.values.data(), pixels.data_ptr<float>(), out.values.size() * sizeof(float));
  for (size_t i = 0; i < out.values.size(); ++i) {
    const size_t c = i % static_cast<size_t>(out.channels);
    out.values[i] = 255 * (out.values[i] * data.stddev[c] + data.mean[c]);
  }
  return out;
}

std::vector<int> labels_of(const Tensor& labels) {
  std::vector<int> out;
  for (int64_t i = 0; i < labels.numel(); ++i) out.push_back(static_cast<int>(labels[i].item<int64_t>()));
  return out;
}

}  // namespace

train::Dataset slice(const train::Dataset& all, int64_t begin, int64_t end) {
  train::Dataset part = all;
  const auto values = all.image_values();
  part.labels.assign(all.labels.begin() + begin, all.labels.begin() + end);
  part.images.assign(all.images.begin() + begin * values, all.images.begin() + end * values);
  return part;
}

nn::ModelOptions model_options(const VictimOptions& options, const train::Dataset& data) {
  return {.name = options.model,
          .classes = static_cast<int64_t>(data.class_names.size()),
          .image_side = data.height,
          .image_channels = data.channels};
}

Operand grey_levels(const train::Dataset& images) {
  Operand out(images.size(), images.height, images.width, images.channels);
  const int64_t pixels = images.height * images.width;
  for (int64_t i = 0; i < out.rows; ++i)
    for (int64_t c = 0; c < out.channels; ++c)
      for (int64_t p = 0; p < pixels; ++p)
        out.at(i, p, c) = images.images[static_cast<size_t>((i * out.channels + c) * pixels + p)];
  return out;
}

std::shared_ptr<nn::Model> make_loaded_model(const nn::ModelOptions& options, const State& state) {
  auto model = nn::make_model(options);
  train::load_weights(*model, state, "audit");
  return model;
}

State copy_state(const nn::Model& model) {
  State copy;
  for (const auto& [name, tensor] : train::state_of(model)) copy[name] = tensor.detach().clone();
  return copy;
}

State train_plain(const VictimOptions& options, const train::DataSplits& data, bool quiet) {
  const TemporaryFolder folder;
  RunConfig config = run_config(options, folder.path());
  train::resolve(config);
  train::Deployment deployment = train::deploy(config, model_options(options, data.train), std::nullopt);
  const SecretKey root = SecretKey::random();
  Csprng random(derive_key(root, "initial-weights"));
  deployment.model->initialise(random);
  train::Trainer trainer(config, deployment, data, root.duplicate(), SecretKey::random(), SecretKey::random());
  trainer.run({.quiet = quiet});
  return copy_state(*deployment.model);
}

double accuracy_of(const nn::ModelOptions& options, const State& state, const train::Dataset& images) {
  train::Deployment deployment;
  deployment.options = options;
  deployment.model = make_loaded_model(options, state);
  deployment.own_threads = std::make_unique<ThreadPool>(1);
  return train::evaluate_model(deployment, images, 250, 0).accuracy;
}

RecordedRun record_run(const VictimOptions& options, const State& start, const train::DataSplits& data,
                       const Setting& setting, const RecordOptions& recording, const SecretKey& root) {
  const TemporaryFolder folder;
  const RunConfig config = recording_config(options, folder.path(), setting, recording.steps, false);
  const auto recorder = std::make_shared<Recorder>(recording);
  std::shared_ptr<contract::Worker> worker;
  train::Deployment deployment = train::deploy(config, model_options(options, data.train), SecretKey::random(),
                                               [&](std::shared_ptr<contract::Worker> inner) {
                                                 worker = inner;
                                                 return std::make_shared<ObservedWorker>(std::move(inner), recorder);
                                               });
  if (deployment.session == nullptr) throw RunError("audit: nothing is offloaded, so there is nothing to record");
  train::load_state(*deployment.model, start, "", "audit");
  recorder->attach(*deployment.session, worker);
  const train::DataSplits few = with_few_tests(data);
  train::Trainer trainer(config, deployment, few, root.duplicate(), SecretKey::random(), SecretKey::random());
  trainer.run({.quiet = true});

  RecordedRun run;
  for (const auto& layer : deployment.plan.layers)
    if (layer.placement == nn::Placement::kWorker && layer.kind != "matmul") run.layers.push_back(layer.name);
  for (size_t i = 0; i < run.layers.size(); ++i) run.input_geometry.push_back(recorder->input_geometry(i));
  run.events = recorder->events();
  run.cases = recorder->take_cases(run.layers);
  const train::BatchTensors batch = first_batch(options, data, root);
  const std::vector<int> labels = labels_of(batch.labels);
  const auto& planned = deployment.plan.layers;
  if (planned.size() > 1 && planned[0].placement != nn::Placement::kWorker && !run.cases.empty() &&
      planned[1].name == run.layers.front()) {
    run.cases.front().reads_first_layer = true;
    run.cases.front().truth.front().images = grey_levels(batch.images, data.train);
    run.cases.front().truth.front().first_weight = weight_operand(start, planned[0].name);
  }
  const auto no_class = static_cast<int>(data.train.class_names.size());
  for (size_t i = 0; i < run.cases.size(); ++i) {
    run.cases[i].decoy_energy = obfuscation::make_protection(setting.blinding)->decoy_energy();
    if (run.cases[i].truth.empty()) continue;
    std::vector<int>& own = run.cases[i].truth.front().labels = labels;
    const int64_t images = run.input_geometry[i].images;  // decoys are a class of their own
    if (images < 2 * static_cast<int64_t>(labels.size())) own.resize(static_cast<size_t>(images), no_class);
  }
  return run;
}

RunSummary measure_run(const VictimOptions& options, const State& start, const train::DataSplits& data,
                       const Setting& setting, int64_t steps, bool local) {
  const TemporaryFolder folder;
  const RunConfig config = recording_config(options, folder.path(), setting, steps, local);
  train::Deployment deployment = train::deploy(config, model_options(options, data.train), SecretKey::random());
  train::load_state(*deployment.model, start, "", "audit");
  const train::DataSplits few = with_few_tests(data);
  train::Trainer trainer(config, deployment, few, SecretKey::random(), SecretKey::random(), SecretKey::random());
  return trainer.run({.quiet = true});
}

RunSummary train_offloaded(const VictimOptions& options, const State& start, const train::DataSplits& data,
                           const Setting& setting, int64_t steps, const SecretKey& root,
                           const train::WorkerWrapper& wrap) {
  const TemporaryFolder folder;
  const RunConfig config = recording_config(options, folder.path(), setting, steps, false);
  train::Deployment deployment = train::deploy(config, model_options(options, data.train), SecretKey::random(), wrap);
  train::load_state(*deployment.model, start, "", "audit");
  train::Trainer trainer(config, deployment, data, root.duplicate(), SecretKey::random(), SecretKey::random());
  return trainer.run({.quiet = true});
}

std::vector<Operand> layer_inputs(const VictimOptions& options, const State& state, const train::DataSplits& data,
                                  const SecretKey& root, const std::vector<std::string>& layers,
                                  const std::vector<obfuscation::TileGeometry>& geometry) {
  const torch::NoGradGuard no_grad;
  const auto model = make_loaded_model(model_options(options, data.train), state);
  model->train();
  const auto names = nn::module_names(*model);
  std::vector<Operand> inputs(layers.size());
  const nn::ScopedProbe probe([&](const nn::LayerCall& call) {
    const auto found = std::find(layers.begin(), layers.end(), names.at(&call.module));
    if (found == layers.end() || !call.part.empty() || !call.operand.defined()) return;
    const auto index = static_cast<size_t>(found - layers.begin());
    const Tensor input = as_nhwc(call.input);
    obfuscation::TileGeometry real = geometry[index];  // with decoys, of which the attacker's model knows nothing
    const int64_t rows = real.rows();
    real.images = input.numel() / (real.height * real.width * real.channels);
    inputs[index] = plain_tiles(input.data_ptr<float>(), real);
    inputs[index].rows = rows;
    inputs[index].values.resize(static_cast<size_t>(rows * inputs[index].positions() * inputs[index].channels));
  });
  model->forward(first_batch(options, data, root).images);
  return inputs;
}

std::pair<Matrix, int64_t> input_products(const VictimOptions& options, const State& state,
                                          const train::Dataset& images, const std::string& layer,
                                          const obfuscation::TileGeometry& geometry) {
  constexpr int kBatches = 8;
  using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  std::pair<Matrix, int64_t> products;
  obfuscation::TileGeometry real = geometry;
  real.images = std::min(options.batch_size, images.size());
  for (uint64_t i = 0; i < kBatches; ++i) {
    const Operand x = layer_inputs(options, state, {images, images}, key_from_seed_insecure(i), {layer}, {real})[0];
    const Eigen::Map<const FloatMatrix> rows(x.values.data(), x.rows, x.positions() * x.channels);
    const Matrix product = FloatMatrix(rows.transpose() * rows).cast<double>();
    products.first = i == 0 ? product : Matrix(products.first + product);
    products.second += x.rows;
  }
  return products;
}

LayerCase last_layer_case(const VictimOptions& options, const State& state, const train::DataSplits& data,
                          const Setting& setting, const SecretKey& root) {
  const torch::NoGradGuard no_grad;
  const auto model = make_loaded_model(model_options(options, data.train), state);
  model->train();
  const auto names = nn::module_names(*model);
  const train::BatchTensors batch = first_batch(options, data, root);
  std::string name;
  Tensor input, weight;
  const nn::ScopedProbe probe([&](const nn::LayerCall& call) {
    if (!call.operand.defined()) return;
    name = names.at(&call.module);
    input = call.input;
    weight = call.operand;
  });
  const Tensor logits = model->forward(batch.images);
  const Tensor gradient =
      (torch::softmax(logits, 1) - torch::one_hot(batch.labels, logits.size(1)).to(torch::kFloat32)) /
      static_cast<double>(batch.labels.numel());
  BlindingOptions blinding = setting.blinding;
  LayerCase layer = blinded_linear(blinding, SecretKey::random(), matrix_operand(input.flatten(1)),
                                   matrix_operand(weight), matrix_operand(gradient), labels_of(batch.labels));
  layer.layer = name;
  return layer;
}

Operand weight_operand(const State& state, const std::string& layer) {
  const auto found = state.find(layer + ".weight");
  if (found == state.end()) throw InputError("audit: the model has no weight of the layer " + layer);
  const Tensor weight = as_nhwc(found->second);
  if (weight.dim() == 2) return matrix_operand(weight);
  Operand out(weight.size(0), weight.size(1), weight.size(2), weight.size(3));
  std::memcpy(out.values.data(), weight.data_ptr<float>(), out.values.size() * sizeof(float));
  return out;
}

}  // namespace tempo::audit
