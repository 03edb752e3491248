/// Derives every key of a session, at any time, from one master secret and a public path.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/secret.h"
#include "obfuscation/key.h"
#include "obfuscation/protection.h"

namespace tempo::obfuscation {

/// The keys of a product Y = X W:  X~ = L X M,  W~ = M^-1 W R,  Y~ = L Y R.
enum class KeyRole : uint8_t { kLeft, kInner, kRight };

/// What Pass::number counts.
enum class Period : uint8_t { kStep, kEvaluation, kResidentEpoch };

/// One forward pass and its backward pass. Keys of two different passes are independent.
struct Pass {
  Period period = Period::kStep;
  uint64_t number = 0;
  uint64_t batch = 0;  ///< batch within an evaluation
};

/// Says what a key is for. Two different paths give independent keys; the same path always gives the same key.
struct KeyPath {
  std::string_view layer;  ///< the layer's name in the model
  Pass pass;
  uint64_t call = 0;     ///< number of the layer's use within the pass
  uint64_t item = 0;     ///< item of a batched product
  uint64_t purpose = 0;  ///< product of the step, if operands are not reused: 0 forward, 1 dX, 2 dW
};

/// Derives keys and noise seeds. Thread-safe: deriving changes no state.
class KeyRing {
 public:
  KeyRing(SecretKey master, std::unique_ptr<const Protection> protection)
      : master_(std::move(master)), protection_(std::move(protection)) {}

  [[nodiscard]] Key derive(const KeyPath& path, KeyRole role, uint32_t size) const;
  /// The seed of the noise of an operand. It is independent of every key.
  [[nodiscard]] SecretKey derive_noise_seed(const KeyPath& path, KeyRole role) const;
  [[nodiscard]] const Protection& protection() const { return *protection_; }

 private:
  SecretKey master_;
  std::unique_ptr<const Protection> protection_;
};

}  // namespace tempo::obfuscation
