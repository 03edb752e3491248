/// Records a training run from both sides: what its worker saw, and the truth that guesses are scored against.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "audit/case.h"
#include "audit/observed_worker.h"
#include "obfuscation/tile_geometry.h"
#include "offload/session.h"

namespace tempo::audit {

struct RecordOptions {
  int64_t full_steps = 2;  ///< first steps, of which every operand is kept
  int64_t steps = 20;      ///< of the later ones only W~, dW~ and the first rows of X~ are kept
  /// Values of X~ kept of a later step, at most.
  int64_t later_values = 600'000;
};

/// One line of the worker's log.
struct Event {
  double seconds = 0;  ///< since the recording began
  int64_t step = 0;
  std::string what;                           ///< "put", "free", "reply", or an operation's name
  std::vector<contract::OperandId> operands;  ///< ids that it names
  uint64_t operation = 0;                     ///< number of an operation or of the one replied to
  contract::TensorSpec spec;                  ///< of an operand put or a reply
};

/// Convolutions and linear layers only: products of two activations (attention) are counted in the log, not kept.
/// One recorder, one run. Not thread-safe.
class Recorder final : public WorkerListener, public offload::InsecurePlainObserver {
 public:
  explicit Recorder(const RecordOptions& options) : options_(options) {}

  /// @param worker where the recorder looks into the worker's store, as its owner can.
  void attach(offload::Session& session, std::shared_ptr<contract::Worker> worker);

  void on_put(contract::OperandId id, const contract::Buffer& operand) override;
  void on_free(const std::vector<contract::OperandId>& ids) override;
  void on_operation(uint64_t number, const contract::Operation& operation) override;
  void on_reply(uint64_t number, const contract::Operation& operation, const contract::Buffer& reply) override;
  void sent(contract::OperandId id, const offload::BlindedOperand& operand, const contract::Buffer& decoys) override;
  void received(const contract::Buffer& reply, const offload::BlindedResult& result) override;

  [[nodiscard]] const std::vector<Event>& events() const { return events_; }
  /// How the input of layer `index` was cut into rows, in order of the layers' forward calls.
  [[nodiscard]] const obfuscation::TileGeometry& input_geometry(size_t index) const {
    return layers_.at(index).input_geometry;
  }
  /// The recorded layers, in order of their forward calls. @param names of all offloaded products, in that order.
  std::vector<LayerCase> take_cases(const std::vector<std::string>& names);

 private:
  /// An operand on its way, known in plain.
  struct Sent {
    int64_t step = 0;
    Operand plain;  // of weights, and of everything in full steps
    Matrix inner;   // of X
    double rows_mixed = 1;
    obfuscation::TileGeometry geometry;
    int64_t decoys = 0;  // images
  };
  struct Layer {
    LayerCase recorded;
    obfuscation::TileGeometry input_geometry;
    int64_t decoys = 0;
    contract::OperandId dy = 0;  // first of this step
  };
  enum class Role { kY, kDx, kDw };
  struct PendingReply {
    Role role;
    size_t layer;
  };

  [[nodiscard]] bool recording() const;
  [[nodiscard]] bool recording_fully() const;
  Event& log(std::string what);
  void begin_step_if_new();
  void on_forward(uint64_t number, const contract::Forward& op);
  void on_input_gradient(uint64_t number, const contract::InputGradient& op);
  void on_weight_gradient(uint64_t number, const contract::WeightGradient& op);
  /// Adds the products of the latest X~ to those of the first step under its key.
  void add_products(LayerCase& layer) const;
  size_t layer_of(contract::OperandId operand, size_t& backward_calls);
  Operand copy_of(contract::OperandId id) const;
  Operand fetch(contract::OperandId id);
  StepView& view(size_t layer) { return layers_[layer].recorded.view.back(); }
  StepTruth& truth(size_t layer) { return layers_[layer].recorded.truth.back(); }

  RecordOptions options_;
  offload::Session* session_ = nullptr;
  std::shared_ptr<contract::Worker> worker_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::vector<Event> events_;
  std::vector<Layer> layers_;
  std::map<contract::OperandId, contract::Buffer> stored_;  // shares memory with the worker
  std::map<contract::OperandId, Sent> sent_;
  std::map<contract::OperandId, size_t> layer_of_operand_;
  std::map<uint64_t, PendingReply> pending_;
  std::map<const std::byte*, PendingReply> replies_;
  std::optional<int64_t> step_;
  size_t forward_calls_ = 0, input_gradients_ = 0, weight_gradients_ = 0;
};

}  // namespace tempo::audit
