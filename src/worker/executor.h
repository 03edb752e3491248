/// The worker's arithmetic: LibTorch on blinded operands. UNTRUSTED; knows nothing of keys, models or data.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tempo/worker.h"

namespace tempo::worker {

class Collective;

/// An operand store and the products over it. Not thread-safe: one thread owns it.
class Executor {
 public:
  /// @param device "cpu" or "cuda:N". @param collective for sums with other workers; null: they are refused.
  /// @throws InputError if there is no such device.
  explicit Executor(const std::string& device, std::shared_ptr<Collective> collective = nullptr);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void put(offload::OperandId id, offload::Buffer operand);
  void free(const std::vector<offload::OperandId>& ids);
  /// @throws ProtocolError for an unknown operand or shapes that do not fit; the store is unchanged then.
  offload::Buffer run(const offload::Operation& operation);

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
