/// The trained networks of an audit: the victim's, and the attacker's own.
#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "audit/case.h"
#include "audit/recorder.h"
#include "nn/model.h"
#include "tempo/run.h"
#include "train/data/dataset.h"
#include "train/deployment.h"

namespace tempo::audit {

using State = std::map<std::string, torch::Tensor>;  ///< parameters and buffers by name

/// A way of running Tempo.
struct Setting {
  std::string name;
  BlindingOptions blinding;
  OffloadChoice offload = OffloadChoice::kAll;
  std::string integrity = "off";  ///< what a worker sees does not depend on it
};

/// What a victim is made from.
struct VictimOptions {
  std::string model = "resnet20";
  int64_t batch_size = 64;
  int64_t steps = 2000;
  double lr = 0.1;
  int64_t warmup_steps = 100;
  double recording_lr = 0.02;  ///< constant, while a worker's view is recorded
  int tee_threads = 0;
};

/// `first` images of a data set, or those from `first` on.
train::Dataset slice(const train::Dataset& all, int64_t begin, int64_t end);

/// Images as [images, height, width, colours], in grey levels of 0 to 255.
Operand grey_levels(const train::Dataset& images);

std::shared_ptr<nn::Model> make_loaded_model(const nn::ModelOptions& options, const State& state);
State copy_state(const nn::Model& model);

/// Trains wholly in this process from secret random weights. @param quiet no progress line.
State train_plain(const VictimOptions& options, const train::DataSplits& data, bool quiet);
double accuracy_of(const nn::ModelOptions& options, const State& state, const train::Dataset& images);

struct RecordedRun {
  std::vector<LayerCase> cases;  ///< of every offloaded layer; knowledge is empty
  std::vector<std::string> layers;
  std::vector<obfuscation::TileGeometry> input_geometry;  ///< by layer
  std::vector<Event> events;
};

/// Goes on training from `start` under `setting`, and records it. @param root data order and augmentation.
RecordedRun record_run(const VictimOptions& options, const State& start, const train::DataSplits& data,
                       const Setting& setting, const RecordOptions& recording, const SecretKey& root);

/// The same training without a recorder, for its cost. @param local wholly in the TEE, the baseline
RunSummary measure_run(const VictimOptions& options, const State& start, const train::DataSplits& data,
                       const Setting& setting, int64_t steps, bool local);

/// The same with something put before the worker, judged on all test images.
RunSummary train_offloaded(const VictimOptions& options, const State& start, const train::DataSplits& data,
                           const Setting& setting, int64_t steps, const SecretKey& root,
                           const train::WorkerWrapper& wrap);

/// What a model computes from the first batch that `record_run` used: inputs of the named layers, cut into tiles.
std::vector<Operand> layer_inputs(const VictimOptions& options, const State& state, const train::DataSplits& data,
                                  const SecretKey& root, const std::vector<std::string>& layers,
                                  const std::vector<obfuscation::TileGeometry>& geometry);

/// X^T X of what the layers before `layer` make of batches of `images`: Knowledge::first_layer_products and its rows.
/// @param geometry  how the layer's input is cut into tiles
std::pair<Matrix, int64_t> input_products(const VictimOptions& options, const State& state,
                                          const train::Dataset& images, const std::string& layer,
                                          const obfuscation::TileGeometry& geometry);

/// The last layer, which Tempo keeps in the TEE, as a worker would see it were it offloaded under `setting`.
LayerCase last_layer_case(const VictimOptions& options, const State& state, const train::DataSplits& data,
                          const Setting& setting, const SecretKey& root);

/// A layer's weight in the order of operands: [out, kernel_h, kernel_w, in].
Operand weight_operand(const State& state, const std::string& layer);

nn::ModelOptions model_options(const VictimOptions& options, const train::Dataset& data);

}  // namespace tempo::audit
