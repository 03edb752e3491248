/// What a worker holds of one image: the operand of the first offloaded convolution, in plain and blinded.
#pragma once

#include "tempo/run.h"
#include "train/data/dataset.h"
#include "train/deployment.h"

namespace tempo::train {

/// Runs one forward pass over the batch that holds `image`, as training does it, over a worker in this process; once
/// with protection "none" and once as `config` says. Convolutions have tiles of one position, and weights travel.
/// @param restore puts the weights into a model that has been made
/// @throws InputError if the model has no convolution that could be offloaded
WorkerView worker_view(const RunConfig& config, const nn::ModelOptions& model, const Dataset& images, int64_t image,
                       const std::function<void(nn::Model&)>& restore);

}  // namespace tempo::train
