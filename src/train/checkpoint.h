/// Everything a run needs to go on, in one sealed file: docs/formats/checkpoint.md.
#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>

#include "base/secret.h"
#include "nn/model.h"

namespace tempo::train {

/// Names of the tensors: "model.NAME", "optimiser.STATE.NAME", "resident.LAYER.weight" and "...velocity".
struct Checkpoint {
  nn::ModelOptions model;
  int64_t step = 0;         ///< steps done
  std::string config;       ///< `to_toml(RunConfig)`: what resuming goes by; config.toml is for people to read
  std::string class_names;  ///< newline-separated
  std::map<std::string, torch::Tensor> tensors;
  std::map<std::string, int64_t> numbers;  ///< "resident.LAYER.epoch", "optimiser.steps", those below
  SecretKey root;                          ///< initial weights and data order follow from it
  SecretKey master;                        ///< blinding keys follow from it
};

/// In `numbers`: 1 if the run ended here on purpose, and has not gone on since. Only then may its blinding keys be used
/// again: after anything else, steps beyond this one may have met their keys already, with operands that a worker's
/// replies could have changed.
inline constexpr const char* kCleanStop = "clean_stop";

/// In `numbers`: passes over the training images that are finished, and images of the next one that have been seen. A
/// checkpoint without them was made under one batch size throughout: then they follow from `step`.
inline constexpr const char* kEpoch = "epoch";
inline constexpr const char* kPosition = "position";

/// Where a run directory keeps its checkpoint.
std::filesystem::path checkpoint_path(const std::filesystem::path& run);

/// Replaces the file as a whole, or not at all. @throws RunError
void save_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& file, const SecretKey& key);
/// @throws InputError if it is missing, sealed under another key, altered, cut short, or of another version.
Checkpoint load_checkpoint(const std::filesystem::path& file, const SecretKey& key);

/// Copies the checkpoint's weights and buffers into the model.
/// @throws InputError naming the first tensor that is missing, left over or of another shape; the model is unchanged.
void restore_model(nn::Model& model, const Checkpoint& checkpoint, const std::string& source);
/// Copies tensors by name into the model, with the same checks. `prefix` stands before every name in `tensors`.
void load_state(nn::Model& model, const std::map<std::string, torch::Tensor>& tensors, const std::string& prefix,
                const std::string& source);

/// The same for weights that another program wrote: those of older versions of PyTorch have no `num_batches_tracked`,
/// which is then 0. Numbers of 16 bits are widened.
void load_weights(nn::Model& model, std::map<std::string, torch::Tensor> tensors, const std::string& source);

/// Parameters and buffers by name.
std::map<std::string, torch::Tensor> state_of(const nn::Model& model);

/// Plain safetensors files, for `export` and `--init`.
void write_plain_safetensors(const std::map<std::string, torch::Tensor>& tensors,
                             const std::map<std::string, std::string>& metadata, const std::filesystem::path& file);
std::map<std::string, torch::Tensor> read_plain_safetensors(const std::filesystem::path& file);

}  // namespace tempo::train
