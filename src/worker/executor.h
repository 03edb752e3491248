/// The worker's arithmetic: LibTorch on blinded operands. UNTRUSTED; knows nothing of keys, models or data.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tempo/worker.h"

namespace tempo::worker {

class Collective;

/// Waits for what a device was asked to do, and holds on to the host memory that it reads or writes until then; empty
/// where nothing is under way. To be called once, on any thread. @throws ProtocolError if the device failed.
using Completion = std::function<void()>;

/// An operation that was started.
struct Started {
  contract::Buffer result;  ///< its values are there after `completion`
  Completion completion;
};

/// Memory where a result should lie; nothing: wherever it is.
using Place = std::function<std::optional<contract::Buffer>(const contract::TensorSpec&)>;

/// An operand store and the operations over it: what a session is served with. Not thread-safe: one thread owns it.
class Arithmetic {
 public:
  virtual ~Arithmetic() = default;

  /// The operand's memory must stay as it is until it is freed, or, with a completion, until that is done.
  virtual Completion put(contract::OperandId id, contract::Buffer operand) = 0;
  virtual void free(const std::vector<contract::OperandId>& ids) = 0;
  /// @throws ProtocolError for an unknown operand or shapes that do not fit, the store is unchanged then; what `place`
  /// throws.
  virtual Started start(const contract::Operation& operation, const Place& place) = 0;
};

/// Products on LibTorch. On a GPU, copies to it, products, and copies from it run beside one
/// another, each kind in the order in which it was asked for.
class Executor final : public Arithmetic {
 public:
  /// @param device "cpu" or "cuda:N". @param collective for sums with other workers; null: they are refused.
  /// @throws InputError if there is no such device.
  explicit Executor(const std::string& device, std::shared_ptr<Collective> collective = nullptr);
  ~Executor() override;
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  Completion put(contract::OperandId id, contract::Buffer operand) override;
  void free(const std::vector<contract::OperandId>& ids) override;
  Started start(const contract::Operation& operation, const Place& place) override;
  /// Starts it and waits.
  contract::Buffer run(const contract::Operation& operation);

  [[nodiscard]] uint64_t stored_bytes() const;
  /// Threads of one product on the CPU; to be called on the thread that runs operations.
  static void set_threads(int threads);
  /// "cuda:0" if LibTorch sees a GPU, else "cpu".
  static std::string default_device();
  /// "LibTorch 1.13.1", for descriptions.
  static std::string version();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tempo::worker
