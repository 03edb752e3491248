#include "audit/detection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>

#include "offload/bilinear_product.h"
#include "offload/transport/inprocess.h"
#include "tempo/error.h"

namespace tempo::audit {
namespace {

using contract::ElementType;
using offload::BilinearProduct;

/// The scale of dY, chosen so that a step changes weights by about a percent, as training does.
constexpr double kGradientDeviation = 1e-4;

/// Two layers of one shape, as neighbours in a network are.
struct LayerKind {
  std::string name;
  offload::ImageShape images;
  offload::ProductGeometry geometry;
};

std::vector<LayerKind> layer_kinds() {
  return {{"linear, 256 rows, 64 to 64", {.images = 256}, {.in = 64, .out = 64}},
          {"convolution 3x3, 8 images of 16x16, 32 to 32",
           {.images = 8, .height = 16, .width = 16},
           {.in = 32, .out = 32, .kernel_h = 3, .kernel_w = 3, .padding = 1}}};
}

struct DetectionSetting {
  std::string name;
  BlindingOptions options;
};

std::vector<DetectionSetting> settings() {
  BlindingOptions resident;
  resident.weights = WeightPlacement::kResident;
  BlindingOptions resident_bf16 = resident, returned, permuted, oblique;
  resident_bf16.wire = WirePrecision::kBFloat16;
  oblique.protection = "oblique";
  oblique.reuse = Reuse::kSplit;
  BlindingOptions oblique_bf16 = oblique;
  oblique_bf16.wire = WirePrecision::kBFloat16;
  permuted.protection = "permuted";
  return {{"oblique, float32", oblique},           {"oblique, bf16 wire", oblique_bf16},
          {"rotated resident, float32", resident}, {"rotated resident, bf16 wire", resident_bf16},
          {"rotated returned, float32", returned}, {"permuted returned, float32", permuted}};
}

/// A little training of two layers that feed nothing: random activations and gradients, real updates.
class Bench {
 public:
  Bench(const LayerKind& kind, const DetectionSetting& setting, std::shared_ptr<contract::Worker> worker, uint64_t seed)
      : kind_(kind),
        random_(seed),
        session_(setting.options, SecretKey::random(), std::move(worker), 1,
                 {.policy = integrity::Policy::kAlways, .probability = 1}) {
    for (const char* name : {"first", "second"}) {
      layers_.push_back(std::make_unique<BilinearProduct>(session_, name, kind.geometry));
      const auto& g = kind.geometry;
      const double deviation = std::sqrt(2.0 / static_cast<double>(g.kernel_h * g.kernel_w * g.in));
      weights_.push_back(draw(g.out * g.kernel_h * g.kernel_w * g.in, deviation, false));
    }
  }

  /// Forward, backward and update of both layers. @throws IntegrityError
  void step() {
    session_.begin_pass({obfuscation::Period::kStep, steps_++, 0});
    const auto& g = kind_.geometry;
    const auto& s = kind_.images;
    const int64_t pixels = s.images * s.height * s.width;
    std::vector<float> y(static_cast<size_t>(pixels * g.out)), dx(static_cast<size_t>(pixels * g.in));
    std::vector<std::vector<float>> inputs;
    std::vector<BilinearProduct::UniqueCall> calls;
    for (size_t i = 0; i < layers_.size(); ++i) {
      inputs.push_back(draw(pixels * g.in, 1, true));
      calls.push_back(layers_[i]->forward(
          s, {{ElementType::kFloat32, inputs[i].data()}, {ElementType::kFloat32, weights_[i].data()}},
          {{ElementType::kFloat32, y.data()}}));
    }
    for (size_t i = 0; i < layers_.size(); ++i) {
      const std::vector<float> dy = draw(pixels * g.out, kGradientDeviation, false);
      std::vector<float> dw(weights_[i].size());
      offload::Parameter& weight = *layers_[i]->parameter();
      layers_[i]->backward(
          *calls[i], {ElementType::kFloat32, dy.data()},
          {{ElementType::kFloat32, dx.data()}, {ElementType::kFloat32, weight.keeps_gradient() ? nullptr : dw.data()}});
      weight.step({.step = steps_, .learning_rate = 0.05, .momentum = 0.9, .weight_decay = 5e-4});
    }
  }
  [[nodiscard]] const offload::Verifier::Counts& counts() { return session_.verifier().counts(); }
  [[nodiscard]] bool is_resident() const { return layers_.front()->parameter()->keeps_gradient(); }

 private:
  std::vector<float> draw(int64_t count, double deviation, bool is_rectified) {
    std::normal_distribution<float> normal(0, static_cast<float>(deviation));
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = is_rectified ? std::max(0.0F, normal(random_)) : normal(random_);
    return values;
  }

  LayerKind kind_;
  std::mt19937_64 random_;
  offload::Session session_;
  std::vector<std::unique_ptr<BilinearProduct>> layers_;
  std::vector<std::vector<float>> weights_;
  uint64_t steps_ = 0;
};

/// Whether a lie goes on to be wrong after the step in which it is told.
bool is_lasting(Lie lie) { return lie == Lie::kDropUpdate || lie == Lie::kAlterKept || lie == Lie::kAlterWeight; }

struct Told {
  Lie lie;
  double size;
};

std::vector<Told> lies(bool is_resident) {
  std::vector<Told> all = {{Lie::kElement, 0.01}, {Lie::kElement, 0.1}, {Lie::kElement, 1},
                           {Lie::kSample, 0.5},   {Lie::kReplay, 0},    {Lie::kSwap, 0}};
  if (is_resident)
    for (const Told& more : {Told{Lie::kDropUpdate, 0}, Told{Lie::kAlterKept, 0.1}, Told{Lie::kAlterWeight, 0.1}})
      all.push_back(more);
  return all;
}

/// One step honestly, one with the lie, and those in which a wrong weight shows: to the next rekeying, which fetches
/// and verifies it. @returns nothing if no lie was told
std::optional<bool> is_detected(const LayerKind& kind, const DetectionSetting& setting, const Told& told,
                                const std::shared_ptr<contract::Worker>& honest, uint64_t seed) {
  const auto liar = std::make_shared<LyingWorker>(honest, seed);
  Bench bench(kind, setting, liar, seed);
  bench.step();
  liar->end_pass();
  liar->arm(told.lie, told.size, static_cast<int>(seed % 2));
  try {
    bench.step();
    for (int64_t step = 2; is_lasting(told.lie) && step <= setting.options.rekey_interval; ++step) bench.step();
  } catch (const IntegrityError&) {
    return liar->has_lied();
  }
  if (!liar->has_lied()) return std::nullopt;
  return false;
}

void measure_lies(const LayerKind& kind, const DetectionSetting& setting, const DetectionOptions& options,
                  const std::shared_ptr<contract::Worker>& worker, DetectionResults& results) {
  const bool is_resident = setting.options.weights == WeightPlacement::kResident;
  for (const Told& told : lies(is_resident)) {
    DetectionRow row{to_string(told.lie, told.size), kind.name, setting.name, 0, 0};
    for (int trial = 0; trial < options.trials; ++trial) {
      const auto seen =
          is_detected(kind, setting, told, worker, options.seed * 1'000'003 + static_cast<uint64_t>(trial));
      if (!seen) continue;
      ++row.trials;
      row.detected += *seen ? 1 : 0;
    }
    options.progress(fmt::format("{}; {}; {}: {} of {}", kind.name, setting.name, row.lie, row.detected, row.trials));
    results.lies.push_back(std::move(row));
  }
}

void measure_honest(const LayerKind& kind, const DetectionSetting& setting, int64_t checks, uint64_t seed,
                    const std::shared_ptr<contract::Worker>& worker, DetectionResults& results) {
  constexpr int64_t kChecksOfOneRun = 500;  // then new weights, keys and fingerprints
  HonestRow row{kind.name, setting.name, 0, 0, 0};
  while (row.checks < checks) {
    Bench bench(kind, setting, worker, seed++);
    try {
      while (static_cast<int64_t>(bench.counts().checks) < kChecksOfOneRun) bench.step();
    } catch (const IntegrityError&) {
      ++row.alarms;
    }
    row.checks += static_cast<int64_t>(bench.counts().checks);
    row.largest_ratio = std::max(row.largest_ratio, bench.counts().largest_ratio);
  }
  results.honest.push_back(std::move(row));
}

}  // namespace

DetectionResults measure_detection(const DetectionOptions& options) {
  DetectionResults results;
  const auto worker = offload::make_inprocess_worker("cpu", 1);
  const auto kinds = layer_kinds();
  const auto all = settings();
  for (const LayerKind& kind : kinds)
    for (const DetectionSetting& setting : all) {
      options.progress(fmt::format("{}; {}: honest results", kind.name, setting.name));
      const auto share = options.honest / static_cast<int64_t>(kinds.size() * all.size());
      measure_honest(kind, setting, share, options.seed, worker, results);
      measure_lies(kind, setting, options, worker, results);
    }
  return results;
}

std::string to_markdown(const DetectionResults& results) {
  std::string text = "| layer | setting | lie | trials | detected |\n|---|---|---|---|---|\n";
  for (const DetectionRow& row : results.lies)
    text += fmt::format("| {} | {} | {} | {} | {:.1f}% |\n", row.layer, row.setting, row.lie, row.trials,
                        row.trials > 0 ? 100.0 * row.detected / row.trials : 0.0);
  text +=
      "\n| layer | setting | honest checks | false alarms | largest residual, of what is tolerated "
      "|\n|---|---|---|---|---|\n";
  for (const HonestRow& row : results.honest)
    text += fmt::format("| {} | {} | {} | {} | {:.2f} |\n", row.layer, row.setting, row.checks, row.alarms,
                        row.largest_ratio);
  return text;
}

}  // namespace tempo::audit
