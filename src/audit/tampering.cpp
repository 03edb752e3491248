#include "audit/tampering.h"

#include <cmath>
#include <filesystem>
#include <random>
#include <span>

#include "offload/transport/inprocess.h"
#include "tempo/error.h"

namespace tempo::audit {

using contract::Buffer;

namespace {

/// Adds `relative_error` of the norm along a direction that depends on the size alone.
Buffer with_error(const Buffer& honest, double relative_error) {
  Buffer wrong = Buffer::allocate(honest.spec());
  const auto count = static_cast<size_t>(honest.spec().elements());
  const std::span in(reinterpret_cast<const float*>(honest.data()), count);
  const std::span out(reinterpret_cast<float*>(wrong.data()), count);
  double squares = 0;
  for (const float v : in) squares += static_cast<double>(v) * v;
  const double size = count == 0 ? 0 : relative_error * std::sqrt(squares / static_cast<double>(count));
  std::minstd_rand signs(static_cast<unsigned>(count));
  for (size_t i = 0; i < count; ++i) out[i] = in[i] + static_cast<float>((signs() & 1024U) != 0 ? size : -size);
  return wrong;
}

class TamperingWorker final : public contract::Worker {
 public:
  TamperingWorker(std::shared_ptr<contract::Worker> honest, double relative_error)
      : honest_(std::move(honest)), relative_error_(relative_error) {}

  contract::WorkerDescription describe() override { return honest_->describe(); }
  Buffer allocate(const contract::TensorSpec& spec) override { return honest_->allocate(spec); }
  void put(contract::OperandId id, Buffer operand) override { honest_->put(id, std::move(operand)); }
  void free(std::vector<contract::OperandId> ids) override { honest_->free(std::move(ids)); }

  std::future<Buffer> submit(contract::Operation operation) override {
    auto reply = std::make_shared<std::future<Buffer>>(honest_->submit(operation));
    return std::async(std::launch::deferred, [this, reply, operation = std::move(operation)] {
      const Buffer honest = reply->get();
      const auto* gradient = std::get_if<contract::WeightGradient>(&operation);
      if (gradient != nullptr && gradient->keep_as != 0) {
        // The gradient stays here, so it is altered here; its norm is reported as it was.
        const Buffer kept = honest_->submit(contract::Fetch{gradient->keep_as}).get();
        if (kept.spec().type == contract::ElementType::kFloat32)
          honest_->put(gradient->keep_as, with_error(kept, relative_error_));
        return honest;
      }
      const bool is_product = gradient != nullptr || std::holds_alternative<contract::Forward>(operation) ||
                              std::holds_alternative<contract::InputGradient>(operation);
      if (!is_product || honest.spec().type != contract::ElementType::kFloat32) return honest;
      return with_error(honest, relative_error_);
    });
  }

 private:
  std::shared_ptr<contract::Worker> honest_;
  double relative_error_;
};

/// Whether verification stops such a run.
bool is_refused(const VictimOptions& options, const State& start, const train::DataSplits& data, Setting setting,
                int64_t steps, const SecretKey& root, double error) {
  setting.integrity = "always";
  try {
    train_offloaded(options, start, data, setting, steps, root,
                    [&](auto worker) { return make_tampering_worker(std::move(worker), error); });
  } catch (const IntegrityError&) {
    return true;
  }
  return false;
}

}  // namespace

std::shared_ptr<contract::Worker> make_tampering_worker(std::shared_ptr<contract::Worker> honest,
                                                        double relative_error) {
  return std::make_shared<TamperingWorker>(std::move(honest), relative_error);
}

std::vector<TamperingResult> measure_tampering(const VictimOptions& options, const State& start,
                                               const train::DataSplits& data, const Setting& setting, int64_t steps,
                                               const std::vector<double>& relative_errors) {
  std::vector<TamperingResult> results;
  const SecretKey root = SecretKey::random();  // one order of images for all
  for (const double error : relative_errors) {
    const RunSummary summary = train_offloaded(options, start, data, setting, steps, root, [&](auto worker) {
      return error == 0 ? worker : make_tampering_worker(std::move(worker), error);
    });
    // The last tenth: one batch's loss says little.
    const size_t tail = std::max<size_t>(summary.losses.size() / 10, 1);
    double loss = 0;
    for (size_t i = summary.losses.size() - tail; i < summary.losses.size(); ++i) loss += summary.losses[i];
    results.push_back({.relative_error = error,
                       .final_loss = loss / static_cast<double>(tail),
                       .test_accuracy = summary.test_accuracy.value_or(0),
                       .is_refused = is_refused(options, start, data, setting, steps, root, error)});
  }
  return results;
}

}  // namespace tempo::audit
