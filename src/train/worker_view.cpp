#include "train/worker_view.h"

#include <fmt/format.h>
#include <torch/utils.h>

#include <cmath>
#include <cstring>
#include <map>

#include "tempo/error.h"
#include "train/trainer.h"

namespace tempo::train {
namespace {

using offload::Buffer;

/// Passes everything on, and keeps a copy of the rows of the first convolution.
class CapturingWorker final : public offload::Worker {
 public:
  CapturingWorker(std::shared_ptr<offload::Worker> inner, std::shared_ptr<Buffer> captured)
      : inner_(std::move(inner)), captured_(std::move(captured)) {}

  offload::WorkerDescription describe() override { return inner_->describe(); }
  Buffer allocate(const offload::TensorSpec& spec) override { return inner_->allocate(spec); }
  void put(offload::OperandId id, Buffer operand) override {
    if (captured_->data() == nullptr) operands_[id] = operand;
    inner_->put(id, std::move(operand));
  }
  void free(std::vector<offload::OperandId> ids) override {
    for (const auto id : ids) operands_.erase(id);
    inner_->free(std::move(ids));
  }
  std::future<Buffer> submit(offload::Operation operation) override {
    const auto* forward = std::get_if<offload::Forward>(&operation);
    if (forward != nullptr && forward->product.kind == offload::ProductKind::kConv2d && captured_->data() == nullptr) {
      const Buffer& rows = operands_.at(forward->x);
      *captured_ = Buffer::allocate(rows.spec());
      std::memcpy(captured_->data(), rows.data(), rows.bytes());
      operands_.clear();
    }
    return inner_->submit(std::move(operation));
  }

 private:
  std::shared_ptr<offload::Worker> inner_;
  std::shared_ptr<Buffer> captured_;
  std::map<offload::OperandId, Buffer> operands_;
};

/// The rows [rows, height, width, channels] that a worker gets in a forward pass over `batch`.
Buffer captured_rows(const RunConfig& config, const nn::ModelOptions& options, const torch::Tensor& batch,
                     const std::function<void(nn::Model&)>& restore) {
  const auto captured = std::make_shared<Buffer>();
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

/// The middle positions of the tiles of image `index`, as [channels, side, side].
std::vector<float> maps_of(const Buffer& rows, int64_t index, int64_t side) {
  const auto& shape = rows.spec().shape;
  const int64_t channels = shape[3], middle = (shape[1] / 2 * shape[2] + shape[2] / 2) * channels;
  const auto* values = reinterpret_cast<const float*>(rows.data());
  std::vector<float> maps(static_cast<size_t>(channels * side * side));
  for (int64_t position = 0; position < side * side; ++position) {
    const float* row = values + (index * side * side + position) * shape[1] * shape[2] * channels + middle;
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
  open.blinding.protection = Protection::kNone;

  ThreadPool threads(tee_threads(config));
  const Batches batches(images, config.batch_size);
  const torch::Tensor batch = make_batch(batches, image / config.batch_size, images, threads).images;
  const Buffer plain = captured_rows(open, options, batch, restore);
  if (plain.data() == nullptr)
    throw InputError(fmt::format("model: got {}, expected one with a convolution besides its first", options.name));
  const Buffer blinded = captured_rows(watched, options, batch, restore);

  WorkerView view;
  view.image_side = images.height;
  view.image_channels = images.channels;
  const auto first = images.images.begin() + image * images.image_values();
  view.image.assign(first, first + images.image_values());
  view.channels = plain.spec().shape[3];
  view.side = std::lround(std::sqrt(static_cast<double>(plain.spec().shape[0]) / static_cast<double>(batch.size(0))));
  view.plain = maps_of(plain, image % config.batch_size, view.side);
  view.blinded = maps_of(blinded, image % config.batch_size, view.side);
  return view;
}

}  // namespace tempo::train
