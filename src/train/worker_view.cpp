#include "train/worker_view.h"

#include <fmt/format.h>
#include <torch/utils.h>

#include <cmath>
#include <cstring>
#include <map>

#include "tempo/error.h"
#include "train/config.h"
#include "train/trainer.h"

namespace tempo::train {
namespace {

using contract::Buffer;

/// The operands of one forward product: the rows, and the shape of the weight.
struct Captured {
  Buffer rows;
  std::vector<int64_t> weight;  ///< [out, kernel_h, kernel_w, in]
};

/// Passes everything on, and keeps a copy of the rows of the first forward product.
class CapturingWorker final : public contract::Worker {
 public:
  CapturingWorker(std::shared_ptr<contract::Worker> inner, std::shared_ptr<Captured> captured)
      : inner_(std::move(inner)), captured_(std::move(captured)) {}

  contract::WorkerDescription describe() override { return inner_->describe(); }
  Buffer allocate(const contract::TensorSpec& spec) override { return inner_->allocate(spec); }
  void put(contract::OperandId id, Buffer operand) override {
    if (captured_->weight.empty()) operands_[id] = operand;
    inner_->put(id, std::move(operand));
  }
  void free(std::vector<contract::OperandId> ids) override {
    for (const auto id : ids) operands_.erase(id);
    inner_->free(std::move(ids));
  }
  std::future<Buffer> submit(contract::Operation operation) override {
    const auto* forward = std::get_if<contract::Forward>(&operation);
    if (forward != nullptr && captured_->weight.empty()) {
      const Buffer rows = contract::row_major(operands_.at(forward->x));
      captured_->rows = Buffer::allocate(rows.spec());
      std::memcpy(captured_->rows.data(), rows.data(), rows.bytes());
      captured_->weight = operands_.at(forward->w).spec().shape;
      operands_.clear();
    }
    return inner_->submit(std::move(operation));
  }

 private:
  std::shared_ptr<contract::Worker> inner_;
  std::shared_ptr<Captured> captured_;
  std::map<contract::OperandId, Buffer> operands_;
};

/// What a worker gets in a forward pass over `batch`.
Captured capture(const RunConfig& config, const nn::ModelOptions& options, const torch::Tensor& batch,
                 const std::function<void(nn::Model&)>& restore) {
  const auto captured = std::make_shared<Captured>();
  Deployment deployment = deploy(config, options, SecretKey::random(), [captured](auto worker) {
    return std::make_shared<CapturingWorker>(std::move(worker), captured);
  });
  restore(*deployment.model);
  deployment.model->eval();
  const torch::NoGradGuard no_grad;
  deployment.session->begin_pass({obfuscation::Period::kStep, 0, 0});
  deployment.model->forward(batch);
  return *captured;
}

/// The middle taps of the rows of image `index`, as [channels, side, side].
std::vector<float> maps_of(const Captured& captured, int64_t index, int64_t side) {
  const auto& weight = captured.weight;
  const int64_t channels = weight[3], middle = (weight[1] / 2 * weight[2] + weight[2] / 2) * channels;
  const auto* values = reinterpret_cast<const float*>(captured.rows.data());
  std::vector<float> maps(static_cast<size_t>(channels * side * side));
  for (int64_t position = 0; position < side * side; ++position) {
    const float* row = values + (index * side * side + position) * weight[1] * weight[2] * channels + middle;
    for (int64_t c = 0; c < channels; ++c) maps[static_cast<size_t>(c * side * side + position)] = row[c];
  }
  return maps;
}

}  // namespace

WorkerView worker_view(const RunConfig& config, const nn::ModelOptions& options, const Dataset& images, int64_t image,
                       const std::function<void(nn::Model&)>& restore) {
  if (image < 0 || image >= images.size())
    throw InputError(fmt::format("image: got {}, expected 0 to {}", image, images.size() - 1));
  RunConfig watched = config;
  watched.workers = "inprocess:";
  watched.offload = OffloadChoice::kAll;
  watched.blinding.weights = WeightPlacement::kReturned;
  watched.blinding.conv_tile = 1;
  watched.blinding.wire = WirePrecision::kFloat32;
  RunConfig open = watched;
  open.blinding.protection = "none";

  ThreadPool threads(tee_threads(config));
  const Batches batches(images, config.batch_size);
  const torch::Tensor batch = make_batch(batches, image / config.batch_size, images, threads).images;
  const Captured plain = capture(open, options, batch, restore);
  const int64_t rows = plain.weight.size() == 4 ? plain.rows.spec().shape[0] / batch.size(0) : 0;
  const int64_t side = std::lround(std::sqrt(static_cast<double>(rows)));
  if (side < 2 || side * side != rows)
    throw InputError(fmt::format("model: got {}, expected one whose second product is a convolution", options.name));
  const Captured blinded = capture(watched, options, batch, restore);

  WorkerView view;
  view.image_side = images.height;
  view.image_channels = images.channels;
  const auto first = images.images.begin() + image * images.image_values();
  view.image.assign(first, first + images.image_values());
  view.channels = plain.weight[3];
  view.side = side;
  view.plain = maps_of(plain, image % config.batch_size, view.side);
  view.blinded = maps_of(blinded, image % config.batch_size, view.side);
  return view;
}

}  // namespace tempo::train
