/// Protection schemes: how the secret keys of a product are drawn. A new scheme is one class here and one line in
/// `make_scheme`.
#pragma once

#include <memory>

#include "base/csprng.h"
#include "obfuscation/key.h"
#include "tempo/options.h"

namespace tempo::obfuscation {

/// Draws keys. Stateless and thread-safe: all randomness comes from the stream that is passed in.
class Scheme {
 public:
  virtual ~Scheme() = default;
  /// True if every key satisfies K^-1 == K^T; a condition of resident weights.
  [[nodiscard]] virtual bool is_orthogonal() const = 0;
  /// A key over rows (samples, positions or tiles).
  [[nodiscard]] virtual Key row_key(Csprng& random, uint32_t size) const = 0;
  /// A key over input or output channels.
  [[nodiscard]] virtual Key channel_key(Csprng& random, uint32_t size) const = 0;
};

/// Whether the scheme is meant to protect from a worker that tries. `none` hides nothing, and `permuted`, the paper's
/// scheme, falls to one step's operands (docs/privacy.md): both are for measuring only.
bool protects(const BlindingOptions& options);

/// Rounds of row mixing that `options` mean for so many rows: 0 for `none`, 1 for `permuted`; for `rotated` as set, or
/// ceil(log256 rows) and at least 2: the fewest after which an output can depend on every input (with random
/// permutations most, not all, do).
int row_rounds(const BlindingOptions& options, uint64_t rows);

/// The same of channel keys: 0 for `none`, 1 for `permuted`, 2 for `rotated`.
int channel_rounds(const BlindingOptions& options);

/// @throws InputError as `validate(options)`.
std::unique_ptr<Scheme> make_scheme(const BlindingOptions& options);

}  // namespace tempo::obfuscation
