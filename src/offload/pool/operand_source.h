/// What the pool knows of an operand: how it is spread, and how it is made again for another worker.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tempo::offload {

/// How an operand is spread over the workers: each holds some rows, or each holds all of it.
enum class Spread : uint8_t { kRows, kEverywhere };

/// Which workers may hold a part of an operand that consists of several. Workers are divided into as many groups as
/// there are parts; 0 stands for all of them.
using Holder = int;

/// Makes an operand that lies on workers.
class OperandSource {
 public:
  OperandSource() = default;
  virtual ~OperandSource() = default;
  OperandSource(const OperandSource&) = delete;
  OperandSource& operator=(const OperandSource&) = delete;

  /// Writes the blinded operand. Writes the same bytes each time.
  virtual void write(std::byte* out) const = 0;
};

}  // namespace tempo::offload
