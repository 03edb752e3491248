/// A worker that answers one operation falsely: the adversary of the integrity checks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tempo/worker.h"

namespace tempo::audit {

enum class Lie {
  kElement,      ///< one element of one result is off by `size` times the norm of its row, up or down
  kSample,       ///< one row of one result is multiplied by 1 + size
  kReplay,       ///< the reply to the same kind of operation on the same weight, of the pass before
  kSwap,         ///< the reply to another operation of the same kind and shape in this pass
  kDropUpdate,   ///< an update is acknowledged and not made
  kAlterKept,    ///< one element of a gradient that stays here is off by `size` times the norm of its row
  kAlterWeight,  ///< the same of a resident weight, after an update
};

/// For tables: "one element off by 10% of its row's norm".
std::string to_string(Lie lie, double size);

/// Honest but for one lie, told once it is armed and there is an opportunity. Not thread-safe.
class LyingWorker final : public contract::Worker {
 public:
  LyingWorker(std::shared_ptr<contract::Worker> honest, uint64_t seed);

  /// Tells `lie` at the `opportunity`-th occasion from now on, counted from 0.
  void arm(Lie lie, double size, int opportunity);
  [[nodiscard]] bool has_lied() const { return has_lied_; }
  /// Forgets older replies than those of the pass that ends; a replay is of the last pass.
  void end_pass();

  contract::WorkerDescription describe() override { return honest_->describe(); }
  contract::Buffer allocate(const contract::TensorSpec& spec) override { return honest_->allocate(spec); }
  void put(contract::OperandId id, contract::Buffer operand) override { honest_->put(id, std::move(operand)); }
  void free(std::vector<contract::OperandId> ids) override { honest_->free(std::move(ids)); }
  std::future<contract::Buffer> submit(contract::Operation operation) override;

 private:
  /// Kind of operation and how many of its kind came before in this pass: the same layer in every pass.
  using Place = std::pair<size_t, int>;

  [[nodiscard]] bool is_occasion(const contract::Operation& operation, const contract::Buffer& honest) const;
  contract::Buffer lie_about(const contract::Operation& operation, const contract::Buffer& honest, const Place& place);
  contract::Buffer altered(const contract::Buffer& honest);
  void alter_stored(contract::OperandId id);

  std::shared_ptr<contract::Worker> honest_;
  std::mt19937_64 random_;
  std::map<Place, contract::Buffer> replies_, last_replies_;
  std::map<size_t, int> seen_;
  Lie lie_ = Lie::kElement;
  double size_ = 0;
  int wait_ = -1;  ///< occasions to let pass; -1: not armed
  bool has_lied_ = false;
};

}  // namespace tempo::audit
