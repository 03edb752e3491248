/// The blinding of one layer's step spelled out with dense matrices: for layers that Tempo never offloads, for what-if
/// experiments, and for made-up layers in tests. Slow; equations in docs/blinding.md.
#pragma once

#include <memory>

#include "audit/case.h"
#include "base/csprng.h"
#include "obfuscation/protection.h"

namespace tempo::audit {

/// Not thread-safe.
class StepBlinder {
 public:
  /// @param secret all keys follow from it.
  StepBlinder(const BlindingOptions& blinding, const SecretKey& secret, int64_t rows, int64_t in, int64_t out);

  /// New M and R; the first call is made by the constructor.
  void renew_channels();
  /// Sets the truth's keys, under a new L, and returns what a worker would see of its plain operands. Operands that
  /// are empty stay so.
  StepView blind(StepTruth& truth);

 private:
  struct Keys {
    Matrix left, inner, right;                                // L, M, R
    Matrix left_inverse_t, inner_inverse_t, right_inverse_t;  // L^-T, M^-T, R^-T
    double rows_mixed = 1;
  };
  void renew_left(Keys& keys);
  void renew_inner(Keys& keys);
  void renew_right(Keys& keys);

  Reuse reuse_;
  Csprng random_;
  std::unique_ptr<const obfuscation::Protection> protection_;
  uint32_t rows_, in_, out_;
  Keys keys_;
};

/// A linear layer of one step as it would look to a worker: x [n, 1, 1, in], w [out, 1, 1, in], dy [n, 1, 1, out].
LayerCase blinded_linear(const BlindingOptions& blinding, const SecretKey& secret, Operand x, Operand w, Operand dy,
                         std::vector<int> labels);

}  // namespace tempo::audit
